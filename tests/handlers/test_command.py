"""`command` with real programs: what they get, what their end means, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from qw.core.errors import Invalid
from qw.core.expression import Expression, ExpressionError
from qw.core.task.command import CommandSpec, Exit, as_json, exit_code_of
from qw.core.task.handler_api import Reject, Retry
from qw.core.task.payload import MAX_RESULT, clean
from qw.core.task.printed import MAX_LINE
from qw.handlers import HandlerKind, Handlers
from qw.handlers.command import (
    CommandFailed,
    CommandKilled,
    CommandOptions,
    add_command,
)
from qw.handlers.output import MAX_OUTPUT
from tests.handlers.context import MemoryContext, run

FREE = CommandOptions(allowed=True)

_DAEMON = "import asyncio, sys, tests.handlers.test_command as t; asyncio.run(t.shell(sys.argv[1]))"


async def command(
    payload: dict[str, Any], *, options: CommandOptions = FREE, context: MemoryContext | None = None
) -> Any:
    app = Handlers()
    add_command(app, options)
    return await run(app, "command", payload, context)


async def shell(text: str, context: MemoryContext | None = None, **payload: Any) -> Any:
    return await command({"run": text, **payload}, context=context)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(*files: Path) -> list[int]:
    """The numbers in *files*; empty as long as one is missing."""
    texts = [file.read_text() if file.exists() else "" for file in files]
    return [int(text) for text in texts] if all(text.endswith("\n") for text in texts) else []


def lines(context: MemoryContext, level: str) -> list[str]:
    return [line for logged, text in context.logs if logged == level for line in text.split("\n")]


async def test_the_words_of_a_command_stand_in_the_list_of_processes_once() -> None:
    token = "qw-words-of-a-command"

    result = await command({"argv": ["sh", "-c", 'pgrep -fc -- "$0"; true', token]})

    assert result["stdout"] == "1\n"


async def test_the_words_are_passed_as_they_are() -> None:
    result = await command({"argv": ["printf", "<%s>", "a b", "$(id)", "; ls |", "-x"]})

    assert result == {"exitCode": 0, "stdout": "<a b><$(id)><; ls |><-x>", "executable": "/usr/bin/printf"}


async def test_a_shell_text_stops_at_its_first_failure() -> None:
    with pytest.raises(CommandFailed):
        await shell("false; echo not reached")
    with pytest.raises(CommandFailed):
        await shell("echo $unset_variable")


async def test_bash_fails_with_the_first_part_of_a_pipe_that_does_and_sh_with_the_last() -> None:
    pipe = "false | cat; a=(1 2); echo ${a[1]}"

    assert (await shell("false | echo last"))["stdout"] == "last\n"
    with pytest.raises(CommandFailed, match="exit code 1"):
        await shell(pipe, shell="bash")
    assert (await shell(pipe.replace("false", "true"), shell="bash"))["stdout"] == "2\n"


@pytest.mark.parametrize(
    ("text", "shell"),
    [
        ("#!/usr/bin/env python3\nimport sys\nprint(sys.flags.optimize, 6 * 7)", None),
        ("#! /usr/bin/env -S python3 -O\nimport sys\nprint(sys.flags.optimize, 6 * 7)", None),
        ("import sys\nprint(sys.flags.optimize, 6 * 7)", [sys.executable, "-O"]),
    ],
)
async def test_a_text_is_read_by_the_program_that_it_names(text: str, shell: Any) -> None:
    result = await command({"run": text, "shell": shell})

    assert result["stdout"] in ("0 42\n", "1 42\n")
    assert (result["stdout"][0] == "1") is ("-O" in text or shell is not None)


async def test_a_shell_that_is_named_goes_before_the_first_line() -> None:
    assert (await command({"run": "#!/usr/bin/env python3\necho $0", "shell": "bash"}))["stdout"] == "bash\n"


async def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(Reject, match="exit code 127: '/no/such/interpreter' is not an executable here: not found"):
        await shell("#!/no/such/interpreter\nx")
    with pytest.raises(Reject, match=r"#! line names no program"):
        await shell("#!\nx")


@pytest.mark.parametrize("name", ["sh", "bash"])
async def test_a_text_too_long_for_an_argument_runs_all_the_same(name: str) -> None:
    result = await shell(f"echo begin\n: {'x' * 200_000}\necho end", shell=name)

    assert result["stdout"] == "begin\nend\n"


async def test_nothing_of_a_script_stands_in_its_working_directory() -> None:
    assert (await shell("#!/bin/sh\nls -A"))["stdout"] == ""


async def test_a_failure_says_what_stood_on_stderr() -> None:
    with pytest.raises(CommandFailed, match=r"^exit code 1: cat: /nonexistent: No such file or directory$"):
        await shell("cat /nonexistent")
    with pytest.raises(CommandFailed, match=r"^exit code 3; stderr:\n  one\n  two$") as caught:
        await shell("echo one >&2; echo two >&2; exit 3")
    assert exit_code_of(caught.value.kind) == 3
    with pytest.raises(CommandFailed, match=r"^exit code 4; stderr ends with:\n  9991\n(  \d+\n){8}  10000$"):
        await shell("seq 1 10000 >&2; exit 4")
    with pytest.raises(CommandFailed, match=r"^exit code 5$"):
        await shell("echo not there; exit 5")
    with pytest.raises(Reject, match=r"^exit code 65: bad input$"):
        await shell("echo bad input >&2; exit 65")


@pytest.mark.parametrize("count", [1, 2000, 30_000])
async def test_what_a_command_prints_is_whole_in_its_result(count: int) -> None:
    result = await shell(f"seq 1 {count}")

    assert result["stdout"] == "".join(f"{n}\n" for n in range(1, count + 1))
    assert "truncated" not in result


@pytest.mark.parametrize("text", ["seq 1 200000", "head -c 150000 /dev/zero"])
async def test_what_a_result_cannot_hold_is_marked_as_cut_and_no_expression_reads_it(text: str) -> None:
    result = await shell(text)

    assert len(orjson.dumps(clean(result))) <= MAX_RESULT
    assert result["stdout"].startswith("… ")
    assert "characters left out …\n" in result["stdout"]
    with pytest.raises(ExpressionError, match=r"steps.s.result.stdout is not whole: the command printed .*QW_RESULT"):
        Expression.parse("steps.s.result.stdout").value({"steps": {"s": {"result": result}}})
    assert Expression.parse("steps.s.result.exitCode").value({"steps": {"s": {"result": result}}}) == 0


async def test_a_long_qw_result_leaves_room_for_the_end_of_what_was_printed() -> None:
    result = await shell('printf \'"%0200000d"\' 1 > "$QW_RESULT"; seq 1 20000')

    assert len(orjson.dumps(result)) <= MAX_RESULT
    assert len(result["result"]) == 200_000
    assert result["truncated"] is True


async def test_a_variable_that_is_too_long_is_refused_with_the_way_round() -> None:
    with pytest.raises(Reject, match=r"env: LONG has 131,077 bytes; .* give it as input:"):
        await shell("true", env={"LONG": "x" * 131_072})


async def test_a_directory_that_is_gone_or_closed_is_one_clear_error(tmp_path: Path) -> None:
    gone = tmp_path / "caf\udce9"
    with pytest.raises(Reject, match=r"^cwd: '.*caf\\udce9' is not a directory here$"):
        await command({"argv": ["true"], "cwd": as_json(os.fsencode(gone))})


async def test_what_a_command_leaves_running_is_ended_and_told(tmp_path: Path) -> None:
    context = MemoryContext()
    await command({"run": f"sleep 4711 >/dev/null 2>&1 & echo $! > {tmp_path}/pid"}, context=context)

    [pid] = pids(tmp_path / "pid")
    assert not is_alive(pid)
    [told] = lines(context, "WARNING")
    assert told.startswith(f"ended what the command left running: {pid} (sleep)")


@pytest.mark.parametrize("way", ["", "setsid nohup"])
async def test_what_a_command_leaves_running_lives_on_where_that_is_asked_for(tmp_path: Path, way: str) -> None:
    context = MemoryContext()
    text = f"{way} sleep 4711 </dev/null >/dev/null 2>&1 & echo $! > {tmp_path}/pid"
    await command({"run": text, "background": "keep"}, context=context)

    [pid] = pids(tmp_path / "pid")
    try:
        assert is_alive(pid)
        assert lines(context, "WARNING") == [f"the command left processes running: {pid} (sleep)"]
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_readers_of_its_pipes_that_end_after_the_command_are_nothing_left_running() -> None:
    context = MemoryContext()
    await command({"argv": ["bash", "-c", "echo x > >(sleep 0.01; cat >/dev/null)"]}, context=context)

    assert lines(context, "WARNING") == []


async def test_output_is_logged_by_line_and_stream() -> None:
    context = MemoryContext()

    await shell("echo one; echo two; echo careful >&2; printf 'no end'", context)

    assert lines(context, "INFO") == ["one", "two", "no end"]
    assert lines(context, "WARNING") == ["careful"]


async def test_output_is_logged_while_the_command_runs() -> None:
    context = MemoryContext()
    attempt = asyncio.create_task(shell("echo first; sleep 60", context))

    await until(lambda: context.logs)

    assert context.logs == [("INFO", "first")]
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def test_a_payload_with_data_comes_on_stdin_in_a_file_and_in_the_environment() -> None:
    context = MemoryContext(attempt=3, headers={"traceparent": "00-1-2-01"})

    text = 'cat; printf "\\n%s" "$(cat $QW_PAYLOAD_FILE)" "$QW_PAYLOAD" "$QW_TASK_ID" "$QW_ATTEMPT" "$TRACEPARENT"'
    result = await shell(text, context, x="ö")

    on_stdin, in_file, in_environment, *rest = result["stdout"].splitlines()
    assert json.loads(on_stdin) == json.loads(in_file) == json.loads(in_environment) == context.payload
    assert rest == [str(context.task_id), "3", "00-1-2-01"]


async def test_a_long_payload_is_not_in_the_environment() -> None:
    result = await shell('wc -c; wc -c < $QW_PAYLOAD_FILE; echo "${QW_PAYLOAD-unset}"', long="x" * 100_000)

    size, in_file, variable = result["stdout"].split()
    assert int(size) == int(in_file) > 100_000
    assert variable == "unset"


@pytest.mark.parametrize("given", [{}, {"input": None}, {"input": ""}])
async def test_stdin_is_empty_where_there_is_nothing_for_it(given: dict[str, Any]) -> None:
    assert (await command({"argv": ["sh"], "cwd": "/", "env": {}, **given}))["stdout"] == ""
    assert (await shell("readlink /proc/self/fd/0", **given))["stdout"] == "/dev/null\n"
    declared = CommandSpec(name="take", run=("cat",))
    assert (await command({"command": "take"}, options=CommandOptions(commands={"take": declared})))["stdout"] == ""


async def test_words_variables_and_input_that_are_not_utf8_arrive_as_they_were(tmp_path: Path) -> None:
    odd = b"caf\xe9"
    folder = os.path.join(os.fsencode(tmp_path), odd)
    os.mkdir(folder)
    text = 'printf %s "$1" "$V" | cat - "$2"; cat; pwd'
    words = [as_json(word) for word in (b"sh", b"-c", text.encode() + b" > out", b"sh", odd, b"/dev/null")]

    payload = {"argv": words, "cwd": as_json(folder), "env": {"V": as_json(odd)}, "input": as_json(b"\0\xff")}
    await command({**payload, "argv": [*words[:2], "{ " + text + "; } > out", *words[3:]]})

    with open(os.path.join(folder, b"out"), "rb") as out:
        assert out.read() == odd + odd + b"\0\xff" + folder + b"\n"


async def test_input_replaces_the_payload_on_stdin() -> None:
    assert (await command({"argv": ["cat"], "input": "plain text"}))["stdout"] == "plain text"
    assert (await command({"argv": ["cat"], "input": {"a": [1]}}))["stdout"] == '{"a": [1]}'


async def test_a_command_that_does_not_read_its_input_is_no_failure() -> None:
    assert (await command({"argv": ["true"], "input": "x" * 1_000_000}))["exitCode"] == 0


async def test_json_in_qw_result_becomes_the_result() -> None:
    result = await shell("""echo '{"rows": 3}' > "$QW_RESULT" """)

    assert result["result"] == {"rows": 3}


@pytest.mark.parametrize(
    "write", ['echo "{" > "$QW_RESULT"', 'head -c 300000 /dev/zero > "$QW_RESULT"', 'mkfifo "$QW_RESULT"']
)
async def test_a_bad_qw_result_is_a_failure(write: str) -> None:
    with pytest.raises(Invalid, match="QW_RESULT"):
        await shell(write)


@pytest.mark.parametrize(
    ("code", "error"), [(75, Retry), (65, Reject), (78, Reject), (1, CommandFailed), (3, CommandFailed)]
)
async def test_exit_codes_have_their_meaning(code: int, error: type[Retry | Reject | CommandFailed]) -> None:
    with pytest.raises(error) as caught:
        await shell(f"exit {code}")

    assert type(caught.value) is error
    assert str(caught.value) == f"exit code {code}"
    assert exit_code_of(caught.value.kind) == code


async def test_the_payload_can_change_what_an_exit_code_means() -> None:
    with pytest.raises(Reject, match="exit code 3"):
        await shell("exit 3", exit_codes={"3": "reject"})
    assert (await shell("exit 4", exit_codes={"4": "done"}))["exitCode"] == 4


async def test_a_signal_is_named() -> None:
    with pytest.raises(CommandKilled) as caught:
        await shell("kill -9 $$")

    assert str(caught.value) == "killed by signal 9 (SIGKILL)"
    assert caught.value.exit_code == 137
    assert exit_code_of(caught.value.kind) == 137
    assert exit_code_of("http:500") is None


async def test_a_command_dies_of_a_closed_pipe_as_in_a_shell() -> None:
    result = await shell("yes | head -n 1")

    assert result["stdout"] == "y\n"


async def test_free_commands_need_the_operators_word() -> None:
    for payload in ({"argv": ["true"]}, {"run": "true"}):
        with pytest.raises(Reject, match="--allow-commands"):
            await command(payload, options=CommandOptions())


async def test_a_declared_command_runs_without_that_word() -> None:
    declared = CommandSpec(
        name="paint", run='echo "$COLOUR $QW_PAYLOAD"', env={"COLOUR": "blue"}, exit_codes={0: Exit.DONE}, cwd="/"
    )

    result = await command({"command": "paint", "x": 1}, options=CommandOptions(commands={"paint": declared}))

    assert result["stdout"] == 'blue {"command": "paint", "x": 1}\n'


@pytest.mark.parametrize("name", ["./paint", "paint; id", "/bin/sh", "pain"])
async def test_only_the_declared_names_are_commands(name: str) -> None:
    options = CommandOptions(commands={"paint": CommandSpec(name="paint", run=("true",))})

    with pytest.raises(Reject, match="is declared under commands:"):
        await command({"command": name}, options=options)


@pytest.mark.parametrize("more", [{"env": {"PATH": "/tmp"}}, {"cwd": "/tmp"}])
async def test_a_payload_cannot_bend_a_declared_command(more: dict[str, Any]) -> None:
    options = CommandOptions(commands={"paint": CommandSpec(name="paint", run=("true",))})

    with pytest.raises(Reject, match="are set in its declaration"):
        await command({"command": "paint", **more}, options=options)


async def test_the_executable_is_an_absolute_path_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "true"
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")

    result = await command({"argv": ["true"], "cwd": str(tmp_path)})

    assert result["stdout"] == ""
    assert os.path.isabs(result["executable"])


async def test_what_is_not_executable_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("not a program")
    names = {"no-such-program": 127, "./no-such-program": 127, "": 127, "./notes": 126, str(tmp_path / "notes"): 126}
    for name, code in {**names, str(tmp_path): 126}.items():
        with pytest.raises(Reject, match="is not an executable here") as caught:
            await command({"argv": [name], "cwd": str(tmp_path)})
        assert exit_code_of(caught.value.kind) == code


async def test_a_file_the_kernel_cannot_run_is_a_failure(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)

    with pytest.raises(OSError, match="cannot run"):
        await command({"argv": [str(broken)]})


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"argv": []},
        {"argv": ["true"], "run": "true"},
        {"argv": "true"},
        {"run": "true", "env": {"LD_PRELOAD": "x.so"}},
        {"run": "true", "env": {"QW_TASK_ID": "x"}},
        {"run": "true", "env": {"A=B": "x"}},
        {"run": "true", "exit_codes": {"1": "ignore"}},
        {"run": "true", "cwd": "/no/such/place"},
    ],
)
async def test_a_bad_payload_is_rejected(payload: dict[str, Any]) -> None:
    with pytest.raises(Reject):
        await command(payload)


async def test_secrets_of_the_daemon_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "QW_API_TOKENS": "a",
        "QW_DATABASE_URL": "b",
        "PGPASSWORD": "c",
        "DATABASE_URL": "d",
        "GITHUB_TOKEN": "e",
        "AWS_SECRET_ACCESS_KEY": "f",
        "Smtp_Password": "g",
        "BROKER": "amqp://me:hunter2@host/",
        "LD_PRELOAD": "",
    }
    harmless = {
        "LC_TIME": "C",
        "TZ": "UTC",
        "XDG_CACHE_HOME": "/c",
        "QW_ENV_REGION": "eu",
        "NAMED": "yes",
        "OURS_1": "1",
    }
    for name, value in {**secrets, **harmless, "ANYTHING": "may be a secret"}.items():
        monkeypatch.setenv(name, value)

    options = CommandOptions(allowed=True, inherited=("NAMED", "OURS_*"))
    result = await command({"run": "env", "env": {"MY_TOKEN": "mine"}}, options=options)
    seen = result["stdout"].splitlines()

    names = {line.partition("=")[0] for line in seen}
    assert not names & {*secrets, "ANYTHING"}
    assert {*harmless, "PATH", "HOME", "QW_TASK_ID"} <= names
    assert "MY_TOKEN=mine" in seen


async def test_the_working_directory_is_private_and_gone_afterwards() -> None:
    result = await shell('pwd; stat -c %a .; touch "$PWD/mess"')

    place, mode = result["stdout"].split()
    assert stat.S_IMODE(int(mode, 8)) == 0o700
    assert not os.access(place, os.F_OK)


async def test_a_working_directory_can_be_asked_for(tmp_path: Path) -> None:
    assert (await shell("pwd", cwd=str(tmp_path)))["stdout"] == f"{tmp_path}\n"


async def test_cancel_ends_all_that_the_command_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qw.handlers.child.GRACE_SECONDS", 1.0)
    plain, escaped, orphan = (tmp_path / name for name in ("plain", "escaped", "orphan"))
    text = f"""
        sleep 600 & echo $! > {plain}
        setsid sh -c 'trap "" TERM HUP; echo $$ > {escaped}; while :; do sleep 0.1; done' &
        (setsid nohup sh -c 'echo $$ > {orphan}; exec sleep 600' >/dev/null 2>&1 &)
        wait
    """
    attempt = asyncio.create_task(shell(text))
    await until(lambda: pids(plain, escaped, orphan))
    started = pids(plain, escaped, orphan)
    assert all(map(is_alive, started))

    attempt.cancel()
    begun = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await attempt

    assert not any(map(is_alive, started))
    assert 0.9 < time.monotonic() - begun < 60  # one of them had to be killed


async def test_term_comes_first(tmp_path: Path) -> None:
    ready, told = tmp_path / "ready", tmp_path / "told"
    text = f"trap 'echo bye > {told}; exit 0' TERM; echo $$ > {ready}; while :; do sleep 0.05; done"
    attempt = asyncio.create_task(shell(text))
    await until(lambda: pids(ready))

    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt

    assert told.read_text() == "bye\n"


async def test_a_second_cancel_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qw.handlers.child.GRACE_SECONDS", 60.0)
    ready = tmp_path / "ready"
    attempt = asyncio.create_task(shell(f"trap '' TERM; echo $$ > {ready}; while :; do sleep 0.05; done"))
    await until(lambda: pids(ready))
    begun = time.monotonic()

    attempt.cancel()
    await asyncio.sleep(0.1)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt

    assert not is_alive(pids(ready)[0])
    assert time.monotonic() - begun < 30


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.parametrize("turns", range(1, 13))
async def test_a_cancel_at_any_turn_of_the_start_leaves_no_pipe_open(turns: int) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    attempt = asyncio.create_task(shell("sleep 600"))
    for _ in range(turns):
        await asyncio.sleep(0)

    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt

    await asyncio.sleep(0)  # transports close in the turn after
    await until(lambda: len(os.listdir("/proc/self/fd")) <= open_before)


async def test_a_child_that_keeps_stdout_open_does_not_keep_the_task(tmp_path: Path) -> None:
    child = tmp_path / "child"
    begun = time.monotonic()

    wait_for_it = f"while [ ! -s {child} ]; do :; done"
    result = await shell(f"setsid sh -c 'echo $$ > {child}; exec sleep 600' & {wait_for_it}; echo done")

    assert result["stdout"] == "done\n"
    assert time.monotonic() - begun < 60
    assert not is_alive(pids(child)[0])


async def test_endless_output_is_capped_with_head_and_tail() -> None:
    context = MemoryContext()
    tracemalloc.start()

    await shell("echo first; head -c 9900000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo; echo last", context)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    logged = lines(context, "INFO")
    assert logged[0] == "first"
    assert logged[-1] == "last"
    assert sum(map(len, logged)) <= MAX_OUTPUT + MAX_LINE
    assert "bytes left out" in lines(context, "WARNING")[0]
    assert peak < 16 * 1024 * 1024


async def test_the_log_has_the_bytes_that_were_printed() -> None:
    context = MemoryContext()
    text = r"printf 'x%.0s' $(seq 20000); echo; printf 'caf\351\r\n\0no newline'; printf 'err' >&2"

    await shell(text, context)

    both = {level: b"".join(raw for at, raw in context.printed if at == level) for level in ("INFO", "WARNING")}
    assert both == {"INFO": b"x" * 20_000 + b"\ncaf\xe9\r\n\0no newline", "WARNING": b"err"}


async def test_what_was_printed_before_the_end_is_kept_where_something_holds_the_pipe_open(tmp_path: Path) -> None:
    text = f"printf begun; sleep 4711 2>/dev/null & echo $! > {tmp_path}/pid"
    result = await command({"run": text, "background": "keep"})

    os.kill(pids(tmp_path / "pid")[0], signal.SIGKILL)
    assert result["stdout"] == "begun"


async def test_a_line_without_end_is_split() -> None:
    context = MemoryContext()

    await shell("head -c 20000 /dev/zero | tr '\\0' x", context)

    assert [len(line) for line in lines(context, "INFO")] == [8192, 8192, 20000 - 2 * 8192]


async def test_output_that_is_not_utf8_is_logged_all_the_same() -> None:
    context = MemoryContext()

    await shell("printf '\\377ok \\303\\244\\n'", context)

    assert lines(context, "INFO") == ["\ufffdok ä"]


async def test_a_command_dies_with_the_daemon(tmp_path: Path) -> None:
    child, escaped = tmp_path / "child", tmp_path / "escaped"
    text = f"setsid sh -c 'trap \"\" TERM; echo $$ > {escaped}; sleep 600' & echo $$ > {child}; wait"
    daemon = subprocess.Popen([sys.executable, "-c", _DAEMON, text])
    await until(lambda: pids(child, escaped))

    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()

    started = pids(child, escaped)
    await until(lambda: not any(map(is_alive, started)), seconds=1.5)


async def test_a_command_dies_with_its_supervisor(tmp_path: Path) -> None:
    child = tmp_path / "child"
    attempt = asyncio.create_task(shell(f"echo $PPID > {child}; sleep 600"))
    await until(lambda: pids(child))

    os.kill(pids(child)[0], signal.SIGKILL)

    with pytest.raises(CommandKilled, match=r"killed by signal 9 \(SIGKILL\)"):
        await asyncio.wait_for(attempt, 5)


async def test_no_descriptor_is_left_open() -> None:
    await shell("true")
    before = set(os.listdir("/proc/self/fd"))

    for _ in range(3):
        await shell("true")
        with pytest.raises(CommandFailed):
            await shell("exit 1")

    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_it_works_under_uvloop(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    async def run_and_cancel() -> str:
        attempt = asyncio.create_task(shell(f"trap '' TERM; echo $$ > {ready}; while :; do sleep 0.05; done"))
        await until(lambda: pids(ready))
        attempt.cancel()
        await asyncio.sleep(0.05)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        return str((await shell("echo hello"))["stdout"])

    assert uvloop.run(run_and_cancel()) == "hello\n"
    assert not is_alive(pids(ready)[0])


async def test_a_log_that_cannot_be_written_fails_the_attempt_in_time() -> None:
    class Broken(MemoryContext):
        async def log(self, message: str, *, level: str = "INFO") -> None:
            raise ConnectionError("no database")

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(shell("yes", Broken()), 10)


async def test_signals_to_all_processes_of_the_service_do_not_end_the_watch(tmp_path: Path) -> None:
    supervisor, go = tmp_path / "supervisor", tmp_path / "go"
    attempt = asyncio.create_task(
        shell(f"echo $PPID > {supervisor}; while [ ! -e {go} ]; do sleep 0.05; done; echo done")
    )
    await until(lambda: pids(supervisor))

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pids(supervisor)[0], signum)
    go.touch()

    assert (await attempt)["stdout"] == "done\n"


def test_commands_take_process_slots() -> None:
    app = Handlers()
    add_command(app, FREE)
    handler = app.get("command")

    assert handler is not None
    assert handler.kind is HandlerKind.PROCESS
    assert asyncio.iscoroutinefunction(handler.function)
