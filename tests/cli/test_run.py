from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.program import QW, Qw
from tests.databases import wait_until


@pytest.fixture
def served(qw: Qw) -> Iterator[Qw]:
    """``qw`` with a daemon that runs commands."""
    with qw.daemon("--allow-commands"):
        yield qw


def test_a_command_is_a_task_with_its_directory_and_the_variables_named(qw: Qw) -> None:
    id = qw("run", "--env", "A", "--env", "B=2", "--", "ls", "-l", "--all", A="1", C="3").id

    task = qw("task", "show", str(id), "-o", "json").json
    assert task["type"] == "command"
    assert task["payload"] == {"argv": ["ls", "-l", "--all"], "cwd": str(qw.folder), "env": {"A": "1", "B": "2"}}


def test_what_is_piped_in_is_kept_for_the_command(qw: Qw) -> None:
    words = ("task", "show", qw("run", "--", "cat", stdin="hello\n").out.strip(), "-o", "json")
    binary = ("task", "show", qw("run", "--", "cat", stdin=b"\xff\0").out.strip(), "-o", "json")
    none = ("task", "show", qw("run", "--no-stdin", "--", "cat", stdin="hello").out.strip(), "-o", "json")

    assert qw(*words).json["payload"]["input"] == "hello\n"
    assert qw(*binary).json["payload"]["input"] == {"base64": "/wA="}
    assert "input" not in qw(*none).json["payload"]


def test_too_much_piped_in_is_refused_with_the_way_round(qw: Qw) -> None:
    largest = qw("run", "--", "wc", stdin=b"\x01" * 512 * 1024)
    larger = qw("run", "--", "wc", stdin=b"x" * (512 * 1024 + 1))

    assert largest.code == 0, largest.err
    assert (larger.code, larger.out) == (2, "")
    assert "stdin: has more than 524,288 bytes; write it to a file" in larger.err


def test_whoever_waits_for_a_pipe_is_told(qw: Qw) -> None:
    line = f"sleep 3 | {' '.join(QW)} run -- cat"

    assert "--no-stdin or </dev/null" in qw_shell(qw, line).stderr


def qw_shell(qw: Qw, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], env=qw.environ, cwd=qw.folder, capture_output=True, text=True, timeout=60)


def test_a_word_that_is_not_utf8_is_kept_as_it_was(qw: Qw) -> None:
    done = subprocess.run([*QW, "run", "--", "ls", b"caf\xe9"], env=qw.environ, cwd=qw.folder, capture_output=True)

    assert done.returncode == 0, done.stderr
    task = qw("task", "show", done.stdout.decode().strip(), "-o", "json").json
    assert task["payload"]["argv"] == ["ls", {"base64": "Y2Fm6Q=="}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("echo", "a", "|", "wc"), "'|' is an argument of echo here; for a shell's meaning: qw run -- sh -c"),
        (("ls -l | wc",), "is the name of one program here"),
        (("A=1", "make"), "'A=1' is the name of a program here; for a variable: qw run -e A=1 -- COMMAND"),
        (("cd", "/tmp"), "'cd' is a command of the shell, not a program; use: qw run -- sh -c 'cd ...'"),
        (("sh", "-c", "echo", "hi"), "sh -c takes one argument, in quotes: qw run -- sh -c 'echo hi'"),
        (("—", "ls"), "begins with a long dash; two hyphens separate the command"),
        (("expr", "1", "|", "2"), ""),
    ],
)
def test_whoever_means_a_shell_is_told_how(qw: Qw, words: tuple[str, ...], said: str) -> None:
    told = qw("run", "--", *words).err

    assert said in told
    assert said or "sh -c" not in told


def test_a_command_and_a_schedule_of_one_have_no_time_out_unless_asked(qw: Qw) -> None:
    qw("schedule", "add", "backup", "--cron", "0 3 * * *", "--", "true")
    ids = [
        qw("run", "--", "true").id,
        qw("run", "--timeout", "2h", "--", "true").id,
        qw("schedule", "trigger", "backup").id,
    ]

    shown = [qw("task", "show", str(id)).out for id in ids]

    assert ["\ntimeout " in text for text in shown] == [True, True, True]
    assert [line.split()[1:] for text in shown for line in text.splitlines() if line.startswith("timeout")] == [
        ["none"], ["2", "h"], ["none"],
    ]  # fmt: skip


def test_a_variable_that_is_not_set_is_refused(qw: Qw) -> None:
    done = qw("run", "--env", "NONE", "--", "true")

    assert (done.code, done.out) == (2, "")
    assert "--env: 'NONE' is not set in this environment" in done.err


def test_whoever_runs_a_command_that_nobody_takes_is_warned(qw: Qw) -> None:
    nobody = qw("run", "--", "true")
    with qw.daemon("--queues", "other", "--allow-commands"):
        elsewhere = qw("run", "--", "true")

    assert (nobody.code, elsewhere.code) == (0, 0)
    assert "no worker is running; the task waits for one: qw daemon" in nobody.err
    assert "no running worker serves the queue 'default'" in elsewhere.err


def test_following_shows_the_output_and_ends_as_the_command_did(served: Qw) -> None:
    good = served("run", "-f", "--", "sh", "-c", "echo to stdout; echo to stderr >&2")
    bad = served("run", "-f", "--max-retries", "1", "--", "sh", "-c", "exit 7")
    killed = served("run", "--wait", "--max-retries", "1", "--", "sh", "-c", "kill -9 $$")
    slow = served("run", "--wait", "--timeout", "100ms", "--", "sleep", "60")
    unknown = served("run", "--wait", "--", "no-such-program")

    assert (good.code, good.out) == (0, "to stdout\n")
    assert "to stderr" in good.err
    assert (bad.code, killed.code, slow.code, unknown.code) == (7, 137, 124, 127)
    assert "exit code 7" in bad.err


def test_following_prints_the_bytes_that_the_command_printed(served: Qw) -> None:
    text = r"printf 'x%.0s' $(seq 20000); echo; printf 'caf\351\r\n\0no newline'"
    done = subprocess.run(
        [*QW, "run", "-f", "--", "sh", "-c", text], env=served.environ, cwd=served.folder, capture_output=True
    )
    id = served("task", "list", "--quiet").out.split()[0]
    again = subprocess.run([*QW, "logs", "--raw", id], env=served.environ, cwd=served.folder, capture_output=True)

    assert done.stdout == again.stdout == b"x" * 20_000 + b"\ncaf\xe9\r\n\0no newline"
    assert (done.stderr, again.stderr) == (b"", b"")


def test_logs_are_shown_while_they_grow(served: Qw) -> None:
    id = served("run", "--", "sh", "-c", "echo one; echo two").id

    followed = served("logs", "-f", str(id))
    again = served("logs", str(id), "-o", "jsonl")

    assert [line.split("  ")[1] for line in followed.out.splitlines()] == ["one", "two"]
    assert "completed" in followed.err
    assert again.out.count('"message"') == 2


def test_waiting_for_several_is_good_only_if_all_are(served: Qw) -> None:
    good, bad = served("run", "--", "true").id, served("run", "--max-retries", "1", "--", "false").id

    assert served("wait", str(good)).code == 0
    assert served("wait", str(good), str(bad)).code == 1
    assert served("wait", str(bad), "--quiet").out.split() == [str(bad)]


def test_waiting_ends_when_patience_does(qw: Qw) -> None:
    id = qw("enqueue", "noop", "--in", "1h").id

    done = qw("wait", str(id), "--timeout", "50ms")

    assert done.code == 124
    assert str(id) in done.err


def test_a_task_that_does_not_exist_is_not_waited_for(qw: Qw) -> None:
    assert qw("wait", "01890000-0000-7000-8000-000000000001").code == 3


def answered(qw: Qw, answer: bytes) -> tuple[int, str]:
    """``qw run --wait`` of a long command on a terminal, interrupted, and then given *answer*."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*QW, "run", "--wait", "--", "sleep", "60"],
        env=qw.environ, cwd=qw.folder, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    try:
        seen = _read_until(leader, b"\r\n")  # the id: it waits
        wait_until(lambda: "processing" in qw("task", "list").out)
        process.send_signal(signal.SIGINT)
        seen += _read_until(leader, b"continue waiting (Enter)? ")
        os.write(leader, answer)
        code = process.wait(60)
        return code, (seen + _rest(leader)).decode()
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def _read_until(leader: int, word: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 20
    while word not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([leader], [], [], 0.1)[0]:
            seen += os.read(leader, 4096)
    return seen


def _rest(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:
        return b""


def test_an_interrupt_asks_before_it_cancels(served: Qw) -> None:
    code, _ = answered(served, b"c\n")

    assert code == 1
    assert [task["status"] for task in served("task", "list", "-o", "json").json] == ["cancelled"]


def test_an_interrupt_may_leave_the_task_running(served: Qw) -> None:
    code, seen = answered(served, b"l\n")

    assert code == 130
    assert "the task keeps running; follow it with: qw logs -f" in seen
    assert [task["status"] for task in served("task", "list", "-o", "json").json] == ["processing"]
    assert served("task", "cancel", "--all", "--running", "--yes").code == 0


def test_a_command_runs_after_others_and_tells_their_end(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        first = qw("run", "--", "sh", "-c", "until [ -e go ]; do sleep 0.1; done; echo first >> order")
        failing = qw("run", "--notify", 'echo "$QW_AFTER_STATUS" > told', "--", "false")
        last = qw("run", "--after", first.out.strip()[:13], "--", "sh", "-c", "echo last >> order")
        never = qw("run", "--after", f"{first.id},{failing.id}", "--", "true")
        wait_until(lambda: "it runs after task" in qw("why", str(last.id)).out)
        (qw.folder / "go").touch()
        ended = {done.id: qw("wait", str(done.id)).code for done in (last, never)}
        either = qw("run", "--after-any", str(first.id), "--after-any", str(failing.id), "-f", "--", "echo", "either")
        wait_until(lambda: (qw.folder / "told").exists() and (qw.folder / "told").read_text() == "failed\n")

    assert ended == {last.id: 0, never.id: 1}
    assert (qw.folder / "order").read_text() == "first\nlast\n"
    assert f"task {failing.id}, which it was to run after, failed" in qw("task", "show", str(never.id)).out
    assert (either.code, either.out) == (0, "either\n")


def test_a_command_after_any_of_several_is_told_which_ended(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        waiting, done = (str(qw("run", *options, "--", "true").id) for options in (["--in", "1h"], []))
        after = ("--after-any", waiting, "--after-any", done)
        last = qw("run", *after, "-f", "--", "sh", "-c", 'echo "$QW_AFTER $QW_AFTER_STATUS"')

    assert (last.code, last.out) == (0, f"{done} completed\n")


def test_a_command_that_waits_for_others_is_not_started_meanwhile(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        first = qw("run", "--", "sleep", "15")
        last = qw("run", "--after", str(first.id), "--", "true")
        wait_until(lambda: "it runs after task" in qw("why", str(last.id)).out)
        suspended = qw("task", "list", "--status", "suspended", "--quiet").out.split()
        code = qw("wait", str(last.id)).code

    assert (code, suspended) == (0, [str(last.id)])
    shown = qw("task", "show", str(last.id), "-o", "json").json
    assert shown["attempt"] == 2
    assert [(one["outcome"], one["value"]) for one in shown["checkpoints"]] == [("completed", None)]


def test_a_task_that_others_wait_for_outlives_their_cancellation(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        first = qw("run", "--in", "1h", "--", "true")
        last = qw("run", "--after", str(first.id), "--", "true")
        wait_until(lambda: "it runs after task" in qw("why", str(last.id)).out)
        qw("task", "cancel", str(last.id))
        wait_until(lambda: qw("task", "show", str(last.id), "-o", "json").json["status"] == "cancelled")

    assert qw("task", "show", str(first.id), "-o", "json").json["status"] == "pending"


def test_a_task_that_is_removed_holds_nobody_up(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        first = qw("run", "--in", "1h", "--", "true")
        last = qw("run", "--after-done", str(first.id), "--", "true")
        wait_until(lambda: "it runs after task" in qw("why", str(last.id)).out)
        qw("task", "cancel", str(first.id))
        qw("task", "remove", str(first.id))

        assert qw("wait", str(last.id)).code == 0


def test_a_url_is_told_how_a_command_ended(qw: Qw) -> None:
    told: list[dict[str, object]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        qw.environ["QW_HTTP_ALLOW"] = "127.0.0.1"
        with qw.daemon("--allow-commands"):
            id = qw("run", "--notify", f"HTTP://127.0.0.1:{server.server_port}/done", "--", "false").out.strip()
            wait_until(lambda: bool(told))
        server.shutdown()

    assert told == [{"text": f"task {id} failed", "taskId": id, "status": "failed"}]


def test_after_what_a_command_runs_must_be_there_and_meant_in_one_way(qw: Qw) -> None:
    unknown = qw("run", "--after", "01890000-0000-7000-8000-000000000000", "--", "true")
    both = qw("run", "--after", "01890000", "--after-done", "01890000", "--", "true")

    assert (unknown.code, both.code) == (3, 2)
    assert "mutually exclusive" in both.err
    assert qw("task", "list", "--quiet").out == ""
