"""``qw`` where its standard streams are closed, and where its current directory is gone or closed to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import QW, Qw
from tests.databases import wait_until

STREAMS = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


def shell(qw: Qw, line: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """*line*, in which ``qw`` is the program, in a shell of its own."""
    text = f'qw() {{ {" ".join(QW)} "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", text], env=qw.environ, cwd=folder or qw.folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("closed", STREAMS)
def test_a_verb_works_with_closed_standard_streams(qw: Qw, closed: str) -> None:
    qw("enqueue", "noop")

    done = shell(qw, f"qw status {closed}; echo rc=$?")

    assert done.stdout.endswith("rc=0\n")
    assert done.stderr == ""
    assert ("default" in done.stdout) is (">&-" not in closed.replace("2>&-", ""))


def test_a_refusal_has_its_exit_code_with_closed_standard_streams(qw: Qw) -> None:
    assert shell(qw, "qw no-such-verb <&- >&- 2>&-; echo rc=$?").stdout == "rc=2\n"


@pytest.mark.parametrize("closed", STREAMS)
def test_a_daemon_starts_and_stops_with_closed_standard_streams(qw: Qw, closed: str) -> None:
    qw("enqueue", "noop")

    done = shell(qw, f"qw daemon --drain --no-http {closed}; echo rc=$?")

    assert done.stdout.endswith("rc=0\n"), done.stderr
    assert "Assertion" not in done.stderr
    assert qw("status", "-o", "json").json["queues"][0]["completed"] == 1


def test_no_socket_of_a_daemon_takes_the_number_of_a_closed_stream(qw: Qw) -> None:
    text = f"exec {' '.join(QW)} daemon --no-http --log-format json <&- 2>started.log"
    daemon = subprocess.Popen(["bash", "-c", text], env=qw.environ, cwd=qw.folder)
    try:
        wait_until(lambda: "daemon is ready" in qw.log or daemon.poll() is not None)
        assert os.readlink(f"/proc/{daemon.pid}/fd/0") == "/dev/null"
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


def test_verbs_work_in_a_directory_that_was_removed(qw: Qw) -> None:
    line = "mkdir gone; cd gone; rmdir ../gone; qw status; echo $?; id=$(qw run --cwd / -- true); echo $? ${#id}"

    done = shell(qw, line)

    assert done.stdout.endswith("0\n0 36\n")
    assert "No such file" not in done.stderr


@pytest.mark.parametrize("words", ["run -- true", "schedule add x --cron @daily -- true"])
def test_a_command_for_a_directory_that_was_removed_is_refused(qw: Qw, words: str) -> None:
    done = shell(qw, f"mkdir gone; cd gone; rmdir ../gone; qw {words}")

    assert done.returncode == 2
    assert done.stderr.startswith("qw: the current directory no longer exists")


def test_no_project_is_begun_in_a_directory_that_was_removed(qw: Qw) -> None:
    done = shell(qw, "mkdir gone; cd gone; rmdir ../gone; qw init")

    assert (done.returncode, done.stderr) == (1, "qw: the current directory no longer exists; change to another one\n")


def test_a_relative_path_in_a_directory_that_was_removed_is_refused(qw: Qw) -> None:
    done = shell(qw, "mkdir gone; cd gone; rmdir ../gone; unset QW_DATABASE_URL; QW_HOME=home qw status")

    assert (done.returncode, done.stderr) == (1, "qw: the current directory no longer exists; change to another one\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not enter")
def test_files_of_a_directory_that_may_not_be_entered_count_as_absent(tmp_path: Path) -> None:
    code = """
import os, sys, qw.definitions
from qw.config import load
from qw.cli.definition_files import of_files
os.chdir('/')
load({})  # imports what nobody may not read
os.chdir(sys.argv[1])
os.setuid(65534)
load({})
print(of_files([]))
"""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "qw.toml").write_text("queues = ['x']")
    (private / "workflows.yaml").write_text("workflows: {}")

    done = subprocess.run([sys.executable, "-c", code, str(private)], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")
