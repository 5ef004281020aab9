"""What becomes of an attempt, from the claim to the row."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import runpy
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from qw.core.task import Backoff, Task
from qw.core.task.handler_api import Context, Reject, Retry, Snooze
from qw.daemon.threads import CountingExecutor
from qw.handlers import Handlers
from qw.services.execution import attempt as attempt_module
from qw.services.execution import in_flight
from qw.services.execution import worker as worker_module
from qw.services.execution.in_flight import Stop
from qw.store import tasks
from tests.given import column, expect_whole, new_task, value
from tests.services.workshop import workshop


async def outcome_of(url: str, app: Handlers, **fields: Any) -> Task:
    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t", **fields))
        await expect_whole(shop.conn)
        return task


def returning(value: object) -> Handlers:
    app = Handlers()

    @app.handler("t")
    async def handle() -> object:
        return value

    return app


def raising(error: BaseException, **policy: Any) -> Handlers:
    app = Handlers()

    @app.handler("t", **policy)
    async def handle() -> None:
        raise error

    return app


async def test_what_a_handler_returns_is_the_result(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def add(a: int, b: int = 2, *, context: Context) -> dict[str, object]:
        return {"sum": a + b, "attempt": context.attempt, "key": context.idempotency_key}

    task = await outcome_of(url, app, payload={"a": 1})

    assert (task.status, task.result) == ("completed", {"sum": 3, "attempt": 1, "key": str(task.id)})
    assert task.started_at is not None


async def test_returning_nothing_is_completed_too(url: str) -> None:
    task = await outcome_of(url, returning(None))

    assert (task.status, task.result) == ("completed", None)


async def test_a_failure_costs_one_attempt_and_waits(url: str) -> None:
    task = await outcome_of(url, raising(RuntimeError("boom")))

    assert (task.status, task.retries, task.attempt, task.reason) == ("retrying", 1, 1, "retry")


async def test_the_last_attempt_fails_the_task(url: str) -> None:
    task = await outcome_of(url, raising(RuntimeError("boom"), max_retries=1))

    assert (task.status, task.retries, task.error) == ("failed", 1, "boom")


async def test_the_tasks_own_policy_comes_before_its_types(url: str) -> None:
    task = await outcome_of(url, raising(RuntimeError("boom"), max_retries=9), max_retries=1)

    assert task.status == "failed"


async def test_the_tasks_own_backoff_comes_before_its_types(url: str) -> None:
    backoff = Backoff(give_up_on=("RuntimeError",))

    task = await outcome_of(url, raising(RuntimeError("boom"), max_retries=9), backoff=backoff)

    assert task.status == "failed"


async def test_an_ancestor_of_the_error_can_be_named(url: str) -> None:
    app = raising(ConnectionResetError("x"), backoff=Backoff(retry_on=("OSError",)))

    assert (await outcome_of(url, app)).status == "retrying"


async def test_a_rejected_task_is_failed_whatever_is_left(url: str) -> None:
    task = await outcome_of(url, raising(Reject("no such customer"), max_retries=9))

    assert (task.status, task.error) == ("failed", "no such customer")


async def test_a_snooze_costs_nothing(url: str) -> None:
    task = await outcome_of(url, raising(Snooze(timedelta(hours=1), "the shop is closed"), max_retries=1))

    assert (task.status, task.retries, task.reason) == ("pending", 0, "the shop is closed")
    assert task.run_at is not None
    assert task.run_at - task.created_at > timedelta(minutes=59)


async def test_a_retry_knows_better_than_the_backoff(url: str) -> None:
    task = await outcome_of(url, raising(Retry("busy", after=timedelta(hours=1))))

    assert (task.status, task.retries) == ("retrying", 1)
    assert task.run_at is not None
    assert task.run_at - task.created_at > timedelta(minutes=59)


@pytest.mark.parametrize("after", [1e9, -5.0])
async def test_a_silly_delay_is_capped(url: str, after: float) -> None:
    task = await outcome_of(url, raising(Retry("busy", after=after)))

    assert task.status == "retrying"
    assert task.run_at is not None
    assert timedelta(seconds=-1) < task.run_at - task.created_at <= timedelta(days=1, seconds=5)


@pytest.mark.parametrize("delay", [timedelta.max, timedelta(days=3_000_000), timedelta.min])
async def test_a_silly_snooze_is_capped(url: str, delay: timedelta) -> None:
    task = await outcome_of(url, raising(Snooze(delay)))

    assert task.status == "pending"
    assert task.run_at is not None
    assert timedelta(seconds=-1) < task.run_at - task.created_at <= timedelta(days=36_501)


@pytest.mark.parametrize("after", [1e18, float("nan"), float("inf")])
async def test_what_is_no_delay_is_an_ordinary_failure(url: str, after: float) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle() -> None:
        raise Retry("busy", after=after)

    assert (await outcome_of(url, app)).status == "retrying"


DROPPED = {"a": "x\ufffdy", "b": None, "c": [None, None], "d": "\ufffd", "e": str(2**70), "f": "binary \ufffd"}


async def test_a_result_that_json_cannot_hold_is_replaced(url: str) -> None:
    result = {
        "a": "x\0y", "b": float("nan"), "c": (float("inf"), -float("inf")), "d": "\ud800", "e": 2**70,
        "f": b"binary \xff",
    }  # fmt: skip

    task = await outcome_of(url, returning(result))

    assert (task.status, task.result) == ("completed", DROPPED)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 100_000, ""])
async def test_an_error_that_cannot_be_stored_is_replaced(url: str, text: str) -> None:
    task = await outcome_of(url, raising(Reject(text)))

    assert task.status == "failed"
    assert task.error
    assert len(task.error) <= 64 * 1024
    assert "\0" not in task.error


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


async def test_a_result_nested_too_deeply_fails_the_task(url: str) -> None:
    for depth in (200, 100_000):
        task = await outcome_of(url, returning(nested(depth)))
        assert (task.status, "nested deeper than 100" in (task.error or "")) == ("failed", True)


async def test_a_result_that_contains_itself_fails_the_task(url: str) -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)

    assert (await outcome_of(url, returning(cyclic))).status == "failed"


async def test_a_result_that_is_too_large_fails_the_task(url: str) -> None:
    task = await outcome_of(url, returning("x" * 300 * 1024))

    assert task.status == "failed"
    assert "return a reference" in (task.error or "")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError("12 GB"), RecursionError("deep")])
async def test_even_these_are_ordinary_failures(url: str, error: BaseException) -> None:
    assert (await outcome_of(url, raising(error))).status == "retrying"


async def test_an_attempt_that_takes_too_long_is_timed_out(url: str) -> None:
    app = Handlers()

    @app.handler("t", timeout=0.05, max_retries=2)
    async def handle() -> None:
        await asyncio.sleep(60)

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))

        assert task.status == "retrying"
        assert await column(shop.conn, "select outcome from qw.attempt") == ["timed_out"]
        assert "timed out after 50ms" in (await tasks.attempts(shop.conn, task.id))[0].error  # type: ignore[operator]


async def test_a_type_without_time_out_may_take_as_long_as_it_likes(url: str) -> None:
    app = Handlers()

    @app.handler("t", timeout=None)
    async def handle(context: Context) -> str:
        async with context.connection() as conn:
            await conn.execute("select 1")
        return "done"

    async with workshop(url, app) as shop:
        assert (await shop.run_one(new_task("t"))).result == "done"


@pytest.mark.parametrize("answer", ["raise", "return"])
async def test_a_time_out_stays_one_whatever_the_handler_makes_of_it(url: str, answer: str) -> None:
    app = Handlers()

    @app.handler("t", timeout=0.05, max_retries=1)
    async def handle() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if answer == "raise":
                raise RuntimeError("another error") from None
        return "too late"

    task = await outcome_of(url, app)

    assert task.status == "failed"
    assert task.error == "timed out after 50ms"


async def test_a_handler_that_cancels_itself_has_failed(url: str) -> None:
    assert (await outcome_of(url, raising(asyncio.CancelledError()))).status == "retrying"


async def test_a_plain_function_runs_in_a_thread(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    def handle(context: Any) -> str:
        context.log("from a thread")
        context.progress(0.5, "half")
        time.sleep(0.05)
        return str(context.task_id)

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))

        assert (task.status, task.result) == ("completed", str(task.id))
        assert [line.message for line in await tasks.read_logs(shop.conn, task.id)] == ["from a thread"]
        assert await tasks.read_progress(shop.conn, task.id) == (0.5, "half")


async def test_a_thread_keeps_slot_and_claim_until_it_comes_back_and_is_then_timed_out(url: str) -> None:
    app = Handlers()
    back = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.handler("t", timeout=0.05, max_retries=1)
    def handle() -> str:
        time.sleep(0.3)
        loop.call_soon_threadsafe(back.set)
        return "late"

    async with workshop(url, app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        [holding] = shop.in_flight
        await shop.until(lambda: holding.stop is Stop.TIMEOUT)
        assert not back.is_set()
        assert shop.worker.running == 1
        await shop.settle()

        task = await shop.task(id)
        assert (task.status, task.error) == ("failed", "timed out after 50ms")


@pytest.mark.parametrize("how", ["time-out", "cancel", "time-out of its own"])
async def test_what_runs_in_to_thread_keeps_slot_and_claim_until_it_comes_back(url: str, how: str) -> None:
    asyncio.get_running_loop().set_default_executor(CountingExecutor())
    app = Handlers()
    release = threading.Event()
    returned: list[float] = []

    def work() -> None:
        release.wait(10)
        returned.append(time.time())

    @app.handler("t", timeout=0.05 if how == "time-out" else 60, max_retries=2)
    async def handle() -> None:
        async with asyncio.timeout(0.05 if how == "time-out of its own" else None):
            await asyncio.to_thread(work)

    async with workshop(url, app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        [holding] = shop.in_flight
        await shop.until(lambda: holding.in_executor)
        if how == "cancel":
            shop.worker.interrupt({id: "enough"})
        await shop.until(lambda: holding.task and (holding.stop or how == "time-out of its own"))
        await asyncio.sleep(0.1)
        await shop.outcomes.step()
        assert shop.worker.running == 1
        assert (await shop.task(id)).status == "processing"
        release.set()
        await shop.settle()

        task = await shop.task(id)
        assert task.status == ("cancelled" if how == "cancel" else "retrying")
        assert len(returned) == 1
        await expect_whole(shop.conn)


async def test_an_attempt_that_lost_its_lease_waits_for_no_thread(url: str) -> None:
    asyncio.get_running_loop().set_default_executor(CountingExecutor())
    app = Handlers()
    release = threading.Event()

    @app.handler("t", max_retries=2)
    async def handle() -> None:
        async with asyncio.timeout(0.05):
            await asyncio.to_thread(release.wait, 10)

    async with workshop(url, app) as shop:
        await shop.enqueue(new_task("t"))
        await shop.claim()
        [holding] = shop.in_flight
        await shop.until(lambda: holding.in_executor)
        await asyncio.sleep(0.1)

        shop.worker.interrupt_all(Stop.LEASE, "the lease expired")
        await shop.settle()

        assert not release.is_set()
        release.set()


async def test_what_completed_leaves_its_threads_alone(url: str) -> None:
    asyncio.get_running_loop().set_default_executor(CountingExecutor())
    app = Handlers()
    release = threading.Event()

    @app.handler("t")
    async def handle() -> str:
        left.append(asyncio.create_task(asyncio.to_thread(release.wait, 10)))
        await asyncio.sleep(0.01)
        return "done"

    left: list[asyncio.Task[bool]] = []
    assert (await outcome_of(url, app)).status == "completed"
    assert not release.is_set()
    release.set()
    await left[0]


@pytest.mark.parametrize("error", [StopIteration("odd"), SystemExit(2), ValueError("x")])
async def test_what_a_thread_raises_is_a_failure(url: str, error: BaseException) -> None:
    app = Handlers()

    @app.handler("t")
    def handle() -> None:
        raise error

    assert (await outcome_of(url, app)).status == "retrying"


async def test_a_process_runs_elsewhere_and_its_death_is_a_failure(url: str) -> None:
    app = Handlers()
    app.handler("t", process=True)(os.getpid)
    app.handler("dies", process=True)(os.abort)

    async with workshop(url, app) as shop:
        lived, died = await shop.run(new_task("t"), new_task("dies"))

        assert lived.status == "completed"
        assert lived.result != os.getpid()
        assert died.status == "retrying"
        assert "died" in ((await tasks.attempts(shop.conn, died.id))[0].error or "")


async def test_a_process_that_takes_too_long_is_killed(url: str, tmp_path: Path) -> None:
    program, pid = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    app = Handlers()
    app.handler("t", process=True, timeout=2, max_retries=1)(runpy.run_path)

    task = await outcome_of(url, app, payload={"path_name": str(program)})

    assert (task.status, task.error) == ("failed", "timed out after 2s")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_what_a_handler_leaves_running_does_not_hold_its_end(url: str) -> None:
    app = Handlers()
    strays = []

    @app.handler("t")
    async def handle() -> str:
        strays.append(asyncio.create_task(asyncio.sleep(60)))
        return "done"

    task = await outcome_of(url, app)

    assert (task.status, task.result) == ("completed", "done")
    strays[0].cancel()


class _Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError


class _Panic(BaseException):
    """As a library of Rust raises."""


@pytest.mark.parametrize(
    ("error", "text"), [(_Speechless(), "_Speechless"), (_Panic("index out of range"), "index out of range")]
)
async def test_what_no_handler_should_raise_is_an_outcome_too(url: str, error: BaseException, text: str) -> None:
    task = await outcome_of(url, raising(error, max_retries=1))

    assert (task.status, task.error) == ("failed", text)


class Order:
    """As an object of an ORM whose session is closed."""

    def __str__(self) -> str:
        raise RuntimeError("the session is closed")


class Hanging:
    """Its text takes for ever, until the test lets go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __str__(self) -> str:
        self.go_on.wait(20)
        return "late"


class HangingError(Exception):
    def __str__(self) -> str:
        return str(self.args[0])


class Unprepared(Retry):
    def __init__(self) -> None:
        """Calls nothing of its class above."""


def with_after(after: object) -> Retry:
    retry = Retry("busy")
    retry.after = after  # type: ignore[assignment]
    return retry


class Model(BaseModel):
    n: int


@pytest.mark.parametrize(
    "error",
    [
        GeneratorExit(), KeyboardInterrupt(), _Panic(), Unprepared(), with_after(30), with_after(float("nan")),
        StopAsyncIteration(), ExceptionGroup("g", [ValueError(n) for n in range(5000)]), _Speechless(),
        BaseExceptionGroup("g", [KeyboardInterrupt(), SystemExit(1)]), ValueError(Order()),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_whatever_is_raised_the_attempt_ends_and_its_slot_is_free(url: str, error: BaseException) -> None:
    async with workshop(url, raising(error)) as shop:
        task = await shop.run_one(new_task("t"))

        assert (task.status, task.retries, shop.worker.running) == ("retrying", 1, 0)
        [attempt] = await tasks.attempts(shop.conn, task.id)
        assert attempt.error


async def test_whatever_cannot_be_stored_of_a_result_the_attempt_ends_with_an_error_that_says_so(url: str) -> None:
    app = Handlers()
    app.handler("t")(lambda: Order())
    app.handler("class")(lambda: Model)

    async with workshop(url, app) as shop:
        order, model = await shop.run(new_task("t"), new_task("class"))

        assert order.status == "retrying"
        assert "RuntimeError: the session is closed" in str((await tasks.attempts(shop.conn, order.id))[0].error)
        assert (model.status, model.result) == ("completed", str(Model))


@pytest.mark.parametrize("way", ["coroutine", "thread"])
async def test_a_result_whose_conversion_hangs_is_timed_out_and_holds_up_nobody(url: str, way: str) -> None:
    app, hanging = Handlers(), Hanging()

    async def coroutine() -> object:
        return hanging

    def thread() -> object:
        return hanging

    app.handler("t", timeout=0.3, max_retries=1)(coroutine if way == "coroutine" else thread)

    @app.handler("other")
    async def other() -> None: ...

    async with workshop(url, app) as shop:
        hung, fine = await shop.run(new_task("t"), new_task("other"))

    hanging.go_on.set()
    assert (hung.status, hung.error) == ("failed", "timed out after 300ms")
    assert fine.status == "completed"


def hidden(function: Any) -> Any:
    """A decorator that hides that *function* is async, or a generator."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def double(**payload: Any) -> int:
    await asyncio.sleep(0)
    return int(payload["n"]) * 2


def lazily(**payload: Any) -> Any:
    yield payload


async def lazily_in_the_loop(**payload: Any) -> Any:
    yield payload


@contextlib.contextmanager
def managed(**payload: Any) -> Any:
    yield payload


async def test_what_a_decorator_hid_is_awaited(url: str) -> None:
    app = Handlers()
    app.handler("t")(hidden(double))

    @functools.wraps(double)
    def wrapped(**payload: Any) -> Any:
        return double(**payload)

    async def logs(context: Any) -> str:
        await context.log("from the loop")
        return "logged"

    @app.handler("logs")
    def logging(context: Context) -> Any:
        return logs(context)

    @app.handler("future")
    def future() -> Any:
        found: concurrent.futures.Future[int] = concurrent.futures.Future()
        found.set_result(7)
        return found

    app.handler("wrapped")(wrapped)

    async with workshop(url, app) as shop:
        ends = await shop.run(
            new_task("t", payload={"n": 4}), new_task("wrapped", payload={"n": 5}), new_task("logs"), new_task("future")
        )

        assert [(task.status, task.result) for task in ends] == [
            ("completed", 8), ("completed", 10), ("completed", "logged"), ("completed", 7),
        ]  # fmt: skip
        assert [line.message for line in await tasks.read_logs(shop.conn, ends[2].id)] == ["from the loop"]


async def test_what_a_decorator_hid_ends_within_the_time_out(url: str) -> None:
    app = Handlers()
    app.handler("t", timeout=0.1, max_retries=1)(hidden(lambda: asyncio.sleep(60)))

    assert (await outcome_of(url, app)).error == "timed out after 100ms"


@pytest.mark.parametrize("body", [lazily, lazily_in_the_loop, managed])
async def test_a_handler_whose_body_never_ran_is_not_completed(url: str, body: Any) -> None:
    app = Handlers()
    app.handler("t")(hidden(body))

    task = await outcome_of(url, app)

    assert task.status == "failed"
    assert "cannot be stored" in (task.error or "")


async def test_a_handler_that_catches_its_cancellation_is_cancelled_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "CANCEL_AGAIN_SECONDS", 0.05)
    app = Handlers()

    @app.handler("t", timeout=0.05, max_retries=1)
    async def handle() -> None:
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    assert (await outcome_of(url, app)).error == "timed out after 50ms"


async def test_a_cancelled_handler_that_raises_a_group_of_cancellations_is_cancelled(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            raise BaseExceptionGroup("several", [error]) from None

    async with workshop(url, app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        await asyncio.sleep(0)
        shop.worker.interrupt({id: "no longer wanted"})
        await shop.settle()

        task = await shop.task(id)
        assert (task.status, task.error) == ("cancelled", "no longer wanted")


async def test_a_task_whose_own_policy_cannot_be_used_fails(url: str) -> None:
    async with workshop(url, returning(1)) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.conn.execute('update qw.task set backoff = \'{"delay": "soon"}\'')
        await shop.claim()
        await shop.settle()

        task = await shop.task(id)
        assert (task.status, "retry policy of this task" in (task.error or "")) == ("failed", True)


async def test_an_error_whose_text_hangs_is_recorded_by_the_name_of_its_class(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "EXPLAIN_SECONDS", 0.2)
    hanging = Hanging()

    task = await outcome_of(url, raising(HangingError(hanging), max_retries=1))

    hanging.go_on.set()
    assert task.status == "failed"
    assert task.error == "the handler raised an error whose text could not be read: HangingError"


async def test_an_error_whose_traceback_hangs_keeps_its_text(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "EXPLAIN_SECONDS", 0.2)
    hanging = Hanging()
    error = ValueError("no such order")
    error.__cause__ = HangingError(hanging)

    task = await outcome_of(url, raising(error, max_retries=1))

    hanging.go_on.set()
    assert task.error == "no such order"


async def test_an_end_is_stored_though_the_log_cannot_be_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOG_SECONDS", 0.1)
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> str:
        await context.log("a line")
        return "done"

    async with workshop(url, app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        async with asyncio.timeout(60):
            while len(shop.in_flight):  # nobody writes the log
                await shop.outcomes.step()
                await asyncio.sleep(0.01)

        assert (await shop.task(id)).result == "done"


async def test_a_transaction_does_not_keep_its_locks_for_the_log(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOG_SECONDS", 60.0)
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> None:
        await context.log("a line")
        async with context.connection() as conn:
            await conn.execute("select pg_advisory_xact_lock(1)")

    async with workshop(url, app) as shop:
        await shop.enqueue(new_task("t"))
        await shop.claim()
        async with asyncio.timeout(30):
            while len(shop.in_flight):  # nobody writes the log
                await asyncio.sleep(0.01)

        assert await value(shop.conn, "select pg_try_advisory_xact_lock(1)")


async def test_an_attempt_whose_task_is_cancelled_by_a_stranger_has_an_outcome(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> str:
        await context.log("a line")
        return "done"

    @app.handler("cancels")
    async def cancels() -> None:
        for holding in shop.in_flight:
            if holding.task is not None and holding.task is not asyncio.current_task():
                holding.task.cancel()

    async with workshop(url, app) as shop:
        ids = await shop.enqueue(new_task("t"), new_task("cancels"))
        await shop.claim()
        await shop.settle()

        assert [(await shop.task(id)).status for id in ids] == ["completed", "completed"]


async def test_a_thread_that_raises_a_cancellation_of_its_own_after_its_time_out_ends(url: str) -> None:
    app = Handlers()
    go = threading.Event()

    @app.handler("t", timeout=timedelta(seconds=0.05), max_retries=1)
    def handle() -> None:
        go.wait(10)
        raise asyncio.CancelledError

    async with workshop(url, app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        [holding] = shop.in_flight
        await shop.until(lambda: holding.stop is Stop.TIMEOUT)
        go.set()
        await shop.settle()

        assert (await shop.task(id)).status == "failed"
