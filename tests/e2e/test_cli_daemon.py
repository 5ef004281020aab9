"""``qw daemon`` as a process: how it is told to stop, how it keeps others, what it serves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.cli.program import Qw, environment
from tests.databases import wait_until
from tests.e2e.terminal import terminal
from tests.processes import free_port

APP = """\
import qw

app = qw.Handlers()


@app.handler("greet")
async def greet(name: str, *, context: qw.Context) -> dict[str, str]:
    await context.log(f"greeting {name}")
    return {"greeting": f"hello {name}"}
"""


@pytest.fixture
def qw(url: str, tmp_path: Path) -> Qw:
    return Qw(environment(QW_DATABASE_URL=url, HOME=str(tmp_path), QW_TICK="100ms"), tmp_path)


def statuses(qw: Qw) -> list[str]:
    return [task["status"] for task in qw("task", "list", "-o", "json").json]


def workers(qw: Qw) -> list[int]:
    """The processes of those that live."""
    return [worker["pid"] for worker in qw("worker", "list", "-o", "json").json]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_signal_lets_running_tasks_end(qw: Qw, number: signal.Signals) -> None:
    with qw.daemon("--allow-commands") as daemon:
        go_on = qw.folder / "go on"
        qw("run", "--", "sh", "-c", f"until test -e '{go_on}'; do sleep 0.05; done")
        wait_until(lambda: statuses(qw) == ["processing"])
        daemon.send_signal(number)
        wait_until(lambda: "draining" in qw.log)
        go_on.touch()
        code = daemon.wait(60)

    assert code == 0
    assert statuses(qw) == ["completed"]
    assert "Traceback" not in qw.log


def test_a_second_signal_hands_running_tasks_back_at_no_cost(qw: Qw) -> None:
    with qw.daemon("--allow-commands") as daemon:
        qw("run", "--", "sleep", "60")
        wait_until(lambda: statuses(qw) == ["processing"])
        daemon.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in qw.log)
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(60)

    task = qw("task", "list", "-o", "json").json[0]
    assert code == 0
    assert (task["status"], task["retries"], task["crashes"]) == ("pending", 0, 0)


def test_a_hangup_has_the_workflow_files_read_again(qw: Qw) -> None:
    def names() -> list[str]:
        return [workflow["name"] for workflow in qw("workflow", "list", "-o", "json").json]

    file = qw.folder / "flows.yaml"
    file.write_text("version: 1\nworkflows: { before: { steps: [ { id: a, type: noop } ] } }\n")
    with qw.daemon("--workflows", "flows.yaml") as daemon:
        file.write_text("version: 1\nworkflows: { after: { steps: [ { id: a, type: noop } ] } }\n")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "after" in names())
        file.write_text("workflows: [\n")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "definition files not reloaded" in qw.log)

    assert {"before", "after"} <= set(names())


def test_a_daemon_ends_with_its_terminal(qw: Qw) -> None:
    with terminal(qw.environ, qw.folder) as screen:
        screen.start(f"{sys.executable} -m qw daemon --no-http", until="daemon is ready")
        [process] = workers(qw)

    wait_until(lambda: not is_alive(process))
    assert workers(qw) == []


def test_a_drain_ends_when_nothing_is_left(qw: Qw) -> None:
    for _ in range(3):
        qw("enqueue", "noop")

    done = qw.process("daemon", "--drain")

    assert done.code == 0
    assert statuses(qw) == ["completed"] * 3


def test_one_parent_keeps_many_daemons(qw: Qw) -> None:
    with qw.started("daemon", "--processes", "2", "--log-format", "json") as parent:
        wait_until(lambda: len(workers(qw)) == 2)
        first = workers(qw)
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(set(workers(qw)) - {first[0]}) == 2)
        second = workers(qw)
        parent.send_signal(signal.SIGTERM)
        code = parent.wait(60)

    assert code == 0
    assert not any(is_alive(pid) for pid in {*first, *second})
    assert workers(qw) == []


def test_a_hangup_reaches_all_daemons_of_a_parent_and_ends_none(qw: Qw) -> None:
    flows = "version: 1\nworkflows: {{ {}: {{ steps: [ {{ id: a, type: noop }} ] }} }}\n"
    (qw.folder / "flows.yaml").write_text(flows.format("before"))
    with qw.started("daemon", "--processes", "2", "--workflows", "flows.yaml", "--log-format", "json") as parent:
        wait_until(lambda: len(workers(qw)) == 2)
        before = workers(qw)
        (qw.folder / "flows.yaml").write_text(flows.format("after"))
        parent.send_signal(signal.SIGHUP)
        wait_until(lambda: "after" in qw("workflow", "list", "-o", "json").out)

        assert workers(qw) == before
        assert parent.poll() is None


@pytest.mark.slow
def test_many_daemons_tell_what_all_of_them_did(qw: Qw, url: str) -> None:
    port = free_port()
    served = f"http://127.0.0.1:{port}"
    enqueued = 0
    with qw.started("daemon", "--processes", "2", "--port", str(port)), psycopg.connect(url, autocommit=True) as conn:
        wait_until(lambda: len(workers(qw)) == 2 and answers(f"{served}/readyz"))

        while conn.execute("select count(distinct worker) from qw.finished").fetchone() != (2,):
            conn.execute("select qw.enqueue('noop') from generate_series(1, 1000)")
            enqueued += 1000
            wait_until(lambda: conn.execute("select count(*) from qw.finished").fetchone() == (enqueued,))  # noqa: B023

        line = f'qw_task_attempts_total{{queue="default",result="completed",type="noop"}} {enqueued}.0'
        wait_until(lambda: line in httpx.get(f"{served}/metrics").text.splitlines())


def test_many_daemons_need_the_port_that_was_named(qw: Qw) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        done = qw.process("daemon", "--processes", "2", "--port", port)

    assert done.code == 78
    assert port in done.err


def answers(address: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(address).status_code == 200
    return False


def test_daemons_do_not_outlive_their_parent(qw: Qw) -> None:
    with qw.started("daemon", "--processes", "2") as parent:
        wait_until(lambda: len(workers(qw)) == 2)
        children = workers(qw)
        parent.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in children))


def test_daemons_that_cannot_start_end_their_parent(qw: Qw) -> None:
    done = qw.process("daemon", "--processes", "2", "--app", "nothing:app")

    assert done.code == 78
    assert "No module named 'nothing'" in done.err


def test_handlers_of_the_users_own_are_served(qw: Qw) -> None:
    (qw.folder / "greetings.py").write_text(APP)
    unknown = qw("enqueue", "greet", "--payload", '{"name": "Zoë"}')
    with qw.daemon("--app", "greetings:app"):
        done = qw("enqueue", "greet", "--payload", '{"name": "Zoë"}', "--wait", "--follow")

    assert unknown.code == 2
    assert done.code == 0
    assert '"greeting": "hello Zoë"' in done.out
    assert "greeting Zoë" in done.out


def test_a_daemon_leaves_to_another_what_only_that_one_serves(qw: Qw) -> None:
    (qw.folder / "greetings.py").write_text(APP)
    with qw.daemon("--app", "greetings:app"), qw.daemon():
        wait_until(lambda: qw.log.count("daemon is ready") == 2)
        for name in ("Ada", "Grace", "Edsger", "Barbara", "Tony"):
            done = qw("enqueue", "greet", "--payload", f'{{"name": "{name}"}}', "--wait")
            assert f'"greeting": "hello {name}"' in done.out
    with psycopg.connect(qw.environ["QW_DATABASE_URL"]) as conn:
        waits = conn.execute("select max(started_at - created_at) < interval '4 seconds' from qw.tasks").fetchone()
    assert waits == (True,)  # parked, they would have waited for five


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--app", "nothing"], 78, "write it as package.module:attribute"),
        (["--workflows", "none.yaml"], 3, "there is no file none.yaml"),
        (["--concurrency", "0"], 78, "concurrency"),
        (["--queues", "a b;c"], 78, "queues"),
        (["--lease", "1s"], 78, "lease"),
    ],
)
def test_what_a_daemon_cannot_start_with_is_said_in_one_line(qw: Qw, words: list[str], code: int, said: str) -> None:
    done = qw.process("daemon", *words)

    assert done.code == code
    assert said in done.err
    assert done.err.startswith("qw: ")


def test_commands_in_a_shared_database_run_only_where_that_is_allowed(qw: Qw) -> None:
    qw("run", "--max-retries", "1", "--", "touch", "here")
    refused = qw.process("daemon", "--drain")
    qw("task", "retry", "--all", "--yes")
    allowed = qw.process("daemon", "--drain", "--allow-commands")

    assert (refused.code, allowed.code) == (0, 0)
    assert (qw.folder / "here").exists()
    assert statuses(qw) == ["completed"]


def test_a_following_shell_sees_lines_as_they_come(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        process = subprocess.Popen(
            ["bash", "-c", 'qw() { "$0" -m qw "$@"; }; qw run -f -- sh -c "echo first; sleep 30"', *_python()],
            env=qw.environ, cwd=qw.folder, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"first\n"
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(60) == 130
        assert statuses(qw) == ["processing"]
        qw("task", "cancel", "--all", "--running", "--yes")
        wait_until(lambda: statuses(qw) == ["cancelled"])


def test_a_command_whose_reader_is_gone_goes_on_and_says_how_it_is_stopped(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        line = f"{sys.executable} -m qw run -f -- sh -c 'echo one; while sleep 0.2; do echo more; done' | head -1"
        done = subprocess.run(["bash", "-c", line], env=qw.environ, cwd=qw.folder, capture_output=True, text=True)

        assert done.stdout == "one\n"
        stop = done.stderr.strip().partition("stop it with: qw ")[2]
        assert qw(*stop.split()).code == 0
        wait_until(lambda: statuses(qw) == ["cancelled"])


def _python() -> list[str]:
    return [sys.executable]
