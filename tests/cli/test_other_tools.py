"""The page for users of other tools: its commands run as they stand there, with real ids for ``ID`` and ``RUN``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.program import Qw, environment
from tests.databases import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "from-other-tools.md").read_text()
COMMANDS = [text.replace("\\|", "|") for text in re.findall(r"`qw ([a-z][^`]*)`", PAGE)]
ENDLESS = {"daemon", "daemon &", "daemon --command-slots 1", "ui --open", "top", "task list --watch", "demo"}
OF_THE_SYSTEM = {"service install"}  # needs systemd
WORKFLOWS = """\
version: 1
workflows:
  NAME: { steps: [{ id: one, type: noop }] }
  waiting: { steps: [{ id: one, type: wait_signal }] }
  failing: { steps: [{ id: one, run: exit 3 }] }
"""
DAGU = "steps:\n  - name: hello\n    command: echo hello\n"
PROGRAMS = ("make", "backup", "notify-send", "CMD")


@pytest.fixture
def served(url: str, tmp_path: Path) -> Iterator[Qw]:
    """``qw`` with a daemon, in a folder with definitions and programs that do nothing."""
    (tmp_path / "workflows.yaml").write_text(WORKFLOWS)
    (tmp_path / "flow.yaml").write_text(DAGU)
    (tmp_path / "bin").mkdir()
    for name in PROGRAMS:
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    qw = Qw(environment(QW_DATABASE_URL=url, HOME=str(tmp_path), PATH=path, SHELL="/bin/bash"), tmp_path)
    with qw.daemon("--allow-commands", "--no-http"):
        yield qw


def _waiting(qw: Qw) -> str:
    return qw("run", "--in", "1h", "--", "true").out.strip()


def _running(qw: Qw) -> str:
    id = qw("run", "--", "sleep", "60").out.strip()
    wait_until(lambda: qw("task", "show", id, "-o", "json").json["status"] == "processing")
    return id


def _completed(qw: Qw) -> str:
    return qw("run", "--wait", "--", "true").out.strip()


def _failed(qw: Qw) -> str:
    return qw("run", "--wait", "--", "false").out.strip()


def _run(workflow: str, status: str) -> Callable[[Qw], str]:
    def started(qw: Qw) -> str:
        id = qw("workflow", "start", workflow).out.strip()
        wait_until(lambda: qw("workflow", "show", id, "-o", "json").json["status"] == status)
        return id

    return started


SUBJECTS: dict[str, Callable[[Qw], str]] = {  # what a command's ID or RUN needs to be; else a completed task
    "run --after": _completed,
    "task edit": _waiting,
    "task move": _waiting,
    "task cancel --running": _running,
    "task cancel": _waiting,
    "task retry": _failed,
    "workflow show": _run("NAME", "completed"),
    "workflow cancel": _run("waiting", "running"),
    "workflow retry": _run("failing", "failed"),
}


def _words(qw: Qw, line: str) -> list[str]:
    words = shlex.split(line)
    if {"ID", "RUN"} & {*words}:
        subject = next((make for begin, make in SUBJECTS.items() if line.startswith(begin)), _completed)
        id = subject(qw)
        words = [id if word in ("ID", "RUN") else word for word in words]
    if line.startswith("schedule ") and "backup" in words[2:3] and words[1] != "add":
        qw("schedule", "add", "backup", "--every", "1d", "--replace", "--", "backup")
    return [*words, "--yes"] if "remove --all" in line else words


@pytest.mark.timeout(400)  # 90 commands; 10 s where nothing else runs
def test_the_commands_of_the_page_do_what_the_page_says(served: Qw) -> None:
    assert served("apply", "-f", "workflows.yaml").code == 0
    refused: list[str] = []
    for line in COMMANDS:
        if line in ENDLESS | OF_THE_SYSTEM or "TYPE" in line:
            continue
        done = served(*_words(served, line), EDITOR="true")
        if done.code != 0:
            refused.append(f"qw {line}: {done.code} {done.err}")

    assert refused == []


def test_the_crontab_is_shown_then_added(qw: Qw) -> None:
    assert "crontab -l | qw schedule import crontab - --yes" in PAGE

    shown = qw("schedule", "import", "crontab", "-", stdin="0 4 * * * true\n")
    added = qw("schedule", "import", "crontab", "-", "--yes", stdin="0 4 * * * true\n")

    assert (shown.code, added.code) == (0, 0)
    assert "nothing was added" in shown.out + shown.err
    assert qw("schedule", "list", "--quiet").out == "true\n"
