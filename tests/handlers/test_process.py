"""Plain functions in a process of their own: real processes, which are let crash in every way."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from qw.core.task.handler_api import Reject, Retry, Snooze
from qw.handlers.leash import Leash, current_leash
from qw.handlers.process import ProcessDied, run_in_process
from qw.services.liveness.lease import now
from tests.handlers.process_functions import (
    Unreadable,
    crash,
    double,
    exhaust_memory,
    fail,
    give,
    ignore,
    leave_a_thread,
    nest,
    sleep_stubbornly,
)
from tests.handlers.test_command import is_alive, pids, until


class Size(BaseModel):
    width: int


def area(size: Size) -> dict[str, Any]:
    return {"area": size.width**2, "pid": os.getpid(), "odd": {1, 2}, "nan": float("nan")}


async def test_it_returns_what_the_function_returns() -> None:
    assert await run_in_process(double, {"number": 21}) == 42


async def test_models_go_in_and_json_comes_out() -> None:
    result = await run_in_process(area, {"size": Size(width=3)})

    assert isinstance(result, dict)
    assert result["area"] == 9
    assert result["pid"] != os.getpid()
    assert result["odd"] == [1, 2]
    assert result["nan"] is None


async def test_an_exception_arrives_by_name_with_its_ancestry_and_text() -> None:
    with pytest.raises(Exception, match="x: 3") as caught:
        await run_in_process(fail, {"how": "picky"})

    assert str(caught.value) == "x: 3"
    assert [cls.__name__ for cls in type(caught.value).__mro__][:3] == ["Picky", "ValueError", "Exception"]
    assert "in fail" in caught.value.__notes__[0]


async def test_what_is_raised_on_purpose_means_the_same() -> None:
    with pytest.raises(Reject, match="no such customer"):
        await run_in_process(fail, {"how": "reject"})
    with pytest.raises(Retry, match="busy") as retry:
        await run_in_process(fail, {"how": "retry"})
    with pytest.raises(Snooze) as snooze:
        await run_in_process(fail, {"how": "snooze"})

    assert retry.value.after == timedelta(seconds=7)
    assert (snooze.value.delay, snooze.value.reason) == (timedelta(seconds=5), "not yet")


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("segfault", r"killed by signal 11 \(SIGSEGV\)"),
        ("abort", r"killed by signal 6 \(SIGABRT\)"),
        ("kill", r"killed by signal 9 \(SIGKILL\)"),
        ("exit", "exit code 1"),
    ],
)
async def test_a_crash_is_a_failure_of_this_attempt_only(how: str, end: str) -> None:
    with pytest.raises(ProcessDied, match=f"^process died: {end}$"):
        await run_in_process(crash, {"how": how})


async def test_an_exit_is_told_with_its_code() -> None:
    with pytest.raises(Exception, match=r"^sys.exit\(4\)") as caught:
        await run_in_process(fail, {"how": "exit"})

    assert type(caught.value).__name__ == "SystemExit"


async def test_a_process_that_ends_without_an_answer_says_so() -> None:
    with pytest.raises(ProcessDied, match=r"^process ended without an answer: exit code 0$"):
        await run_in_process(os._exit, {"status": 0})


@pytest.mark.parametrize(("what", "result"), [("coroutine", "slept"), ("fork", "parent"), ("closed", "closed")])
async def test_what_a_function_does_to_its_process_does_not_lose_its_result(what: str, result: str) -> None:
    assert await run_in_process(give, {"what": what}) == result


@pytest.mark.parametrize(
    ("what", "error", "names"),
    [
        ("large", "return a reference", ["ResultTooLarge", "Reject"]),
        ("lazy", "has not been computed", ["Invalid", "Reject"]),
        ("unanswerable", "RuntimeError: no text", ["RuntimeError"]),
        (
            "group",
            "2 errors: ValueError: v; Retry: busy",
            ["ExceptionGroup", "BaseExceptionGroup", "ValueError", "Retry"],
        ),
        ("rejected group", "no such customer", ["ExceptionGroup", "BaseExceptionGroup", "Reject"]),
    ],
)
async def test_an_outcome_is_judged_in_the_process_as_anywhere(what: str, error: str, names: list[str]) -> None:
    with pytest.raises(Exception, match=error) as caught:
        await run_in_process(give, {"what": what})

    assert [kind.__name__ for kind in type(caught.value).__mro__][: len(names)] == names
    assert getattr(caught.value, "after", None) == (timedelta(seconds=9) if what == "group" else None)


async def test_an_argument_that_cannot_be_read_there_is_a_failure_that_says_so() -> None:
    with pytest.raises(Exception, match=r"^sys.exit\(5\)"):
        await run_in_process(ignore, {"what": Unreadable(5)})


async def test_it_runs_though_the_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert await run_in_process(os.getcwd, {}) == "/"


async def test_a_memory_error_is_an_ordinary_failure() -> None:
    with pytest.raises(Exception, match="MemoryError") as caught:
        await run_in_process(exhaust_memory, {})

    assert type(caught.value).__name__ == "MemoryError"


async def test_threads_left_behind_end_with_the_process() -> None:
    assert await asyncio.wait_for(run_in_process(leave_a_thread, {}), 10) == "done"


async def test_a_result_too_deep_is_a_failure() -> None:
    with pytest.raises(Exception, match="nested deeper"):
        await run_in_process(nest, {})


async def test_a_timeout_kills_even_what_ignores_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qw.handlers.child.GRACE_SECONDS", 0.2)
    file = tmp_path / "pid"

    for seconds in (1, 10, 60):  # until it begins before its time is over
        with pytest.raises(TimeoutError):
            await run_in_process(sleep_stubbornly, {"file": str(file)}, timeout=timedelta(seconds=seconds))
        if pids(file):
            break

    assert not is_alive(pids(file)[0])


async def test_a_cancel_kills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qw.handlers.child.GRACE_SECONDS", 0.2)
    file = tmp_path / "pid"
    attempt = asyncio.create_task(run_in_process(sleep_stubbornly, {"file": str(file)}))
    await until(lambda: pids(file))

    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt

    assert not is_alive(pids(file)[0])


async def test_it_is_gone_soon_after_its_deadline_unless_that_is_extended(tmp_path: Path) -> None:
    file, leash = tmp_path / "pid", Leash()
    current_leash.set(leash)
    leash.extend(now() + 60)
    attempt = asyncio.create_task(run_in_process(sleep_stubbornly, {"file": str(file)}))
    await until(lambda: pids(file))
    leash.extend(now() + 0.2)
    await asyncio.sleep(0.1)
    leash.extend(now() + 2)
    await asyncio.sleep(1)
    assert is_alive(pids(file)[0])

    with pytest.raises(asyncio.CancelledError, match="lease"):
        await attempt

    assert not is_alive(pids(file)[0])
    leash.close()


async def test_a_deadline_shortens_what_it_gets_to_end_when_told_to_stop(tmp_path: Path) -> None:
    file, leash = tmp_path / "pid", Leash()
    current_leash.set(leash)
    leash.extend(now() + 60)
    attempt = asyncio.create_task(run_in_process(sleep_stubbornly, {"file": str(file)}))
    await until(lambda: pids(file))

    attempt.cancel()
    leash.extend(now())
    async with asyncio.timeout(2):
        await asyncio.wait([attempt])

    assert not is_alive(pids(file)[0])
    leash.close()


async def test_it_dies_with_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = """
import asyncio, sys
from qw.handlers.process import run_in_process
from tests.handlers.process_functions import sleep_stubbornly
asyncio.run(run_in_process(sleep_stubbornly, {"file": sys.argv[1]}))"""
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(file))
    await until(lambda: pids(file))

    daemon.kill()
    await daemon.wait()

    await until(lambda: not is_alive(pids(file)[0]), seconds=1.5)


async def test_what_cannot_be_sent_there_is_rejected() -> None:
    with pytest.raises(Reject, match="cannot be sent to another process"):
        await run_in_process(lambda: None, {})
