"""The example in the help of each command, run as it stands there, on one private database.

By a shell where it has something for one: pipes, redirections. Else in this process, in a tenth of the time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.commands import all_commands, example
from tests.cli.program import Done, Qw, environment
from tests.databases import private_home, wait_until
from tests.processes import free_port

CHECKOUT = Path(__file__).parents[2]
COMMANDS = {" ".join(path): example(command) for path, command in all_commands()}
ALONE = (
    "api",
    "ui",
    "daemon",
    "demo",
    "db stop",
    "db grant",
    "db revoke",
)  # serve for ever, or need or stop what is shared


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qw]:
    """A folder with ``workflows.yaml`` and orders, a private database, and a daemon on it."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(CHECKOUT / "workflows.yaml", folder)
    shutil.copy(CHECKOUT / "tests" / "imports" / "ci.yml", folder)
    (folder / "bin").mkdir()
    _program(folder / "bin" / "qw", f'exec "{sys.executable}" -m qw "$@"')
    _program(folder / "bin" / "tar", "exit 0")  # the examples make backups of what is not here
    _program(folder / "bin" / "crontab", "echo '0 4 * * * true'")
    with private_home() as home:
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        qw = Qw(
            environment(QW_HOME=str(home), HOME=str(folder), PATH=path, QW_BROKER="postgres", QW_EVENT_LOG="1h"), folder
        )
        assert qw.process("db", "start").code == 0
        with qw.daemon():
            qw.process("enqueue", "noop", "-q", "mail", "--wait")
            yield qw


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(qw: Qw, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], env=qw.environ, cwd=qw.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def is_plain(line: str) -> bool:
    """Whether a shell would only take the quotes off."""
    unquoted = re.sub(r"""'[^']*'|"[^"$`\\]*\"""", "", line)
    return re.search(r"[|&;<>$`*?~#\\]", unquoted) is None and line.startswith("qw ")


def substituted(qw: Qw, line: str) -> str:
    """*line* with the output of the command that it has in ``$(…)``."""

    def output(match: re.Match[str]) -> str:
        done = qw(*shlex.split(match[1]))
        assert done.code == 0, done.err
        return done.out.strip()

    return re.sub(r"\$\(qw ([^()]+)\)", output, line)


def is_common(line: str) -> bool:
    return bool(line) and "example.org" not in line


@pytest.mark.parametrize("name", [name for name, line in COMMANDS.items() if name not in ALONE and is_common(line)])
def test_the_example_in_the_help_works(shell: Qw, name: str) -> None:
    lines = COMMANDS[name].split(" && ")
    if all(is_plain(re.sub(r"\$\(qw [^()]+\)", "ID", line)) for line in lines):
        all_done = [shell(*shlex.split(substituted(shell, line))[1:]) for line in lines]
    else:
        by_shell = run(shell, COMMANDS[name])
        all_done = [Done(code=by_shell.returncode, out=by_shell.stdout, err=by_shell.stderr)]

    for done in all_done:
        assert done.code == 0 or "qw: nothing to " in done.err, done.err
        assert "Traceback" not in done.err


def test_the_workflow_of_the_tour_runs_to_its_end(shell: Qw) -> None:
    (block,) = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (CHECKOUT / "docs" / "tour.md").read_text())
    (shell.folder / "tour.yaml").write_text(block)
    applied = shell("apply", "-f", "tour.yaml")
    shell("queue", "resume", "--all")  # the examples above paused queues and drained the daemon
    with shell.daemon():
        run = shell("workflow", "start", "release").out.strip()
        wait_until(lambda: shell("workflow", "approve", run, "--by", "zoe").code == 0)

        ended = shell("wait", run)

    assert (applied.code, ended.code) == (0, 0), ended.err


def test_the_example_of_api_serves_until_it_is_told_to_stop(shell: Qw) -> None:
    port = str(free_port())
    words = COMMANDS["api"].replace("8080", port).split()
    serving = subprocess.Popen(words, env=shell.environ, cwd=shell.folder, stderr=subprocess.DEVNULL)

    def is_ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        return False

    try:
        wait_until(is_ready)
    finally:
        serving.terminate()
        code = serving.wait(60)

    assert code == 0


def test_the_examples_that_change_who_serves_work_too(shell: Qw) -> None:
    tried = run(shell, COMMANDS["db grant"].replace("reader", "qw"))
    granted = run(shell, COMMANDS["db grant"].replace("reader", "qw").replace("--dry-run", ""))
    revoked = run(shell, COMMANDS["db revoke"].replace("reader", "qw"))
    drained = run(shell, COMMANDS["daemon"])
    shown = run(shell, COMMANDS["demo"])

    all_done = (tried, granted, revoked, drained, shown)
    assert [done.returncode for done in all_done] == [0] * 5, "".join(done.stderr for done in all_done)
    assert "INV-" in shown.stdout
    wait_until(lambda: run(shell, "qw db stop").returncode == 0)


def test_every_command_has_an_example_of_itself() -> None:
    without = [name for name, line in COMMANDS.items() if f"qw {name}" not in line]

    assert len(COMMANDS) > 30
    about_runs = {
        f"workflow {verb}" for verb in ("cancel", "signal", "approve", "reject", "retry", "compensation-done")
    }
    assert set(without) <= {*about_runs, "worker show", "events drop"}  # whose ids no example can know
