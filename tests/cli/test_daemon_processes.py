"""``qw daemon --processes``: the parent, with small programs in the place of daemons."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from qw.cli.commands import daemon_processes as children
from qw.cli.commands.daemon_processes import _Children
from tests.given import comes_true

LISTENS = """
import os, signal, sys, time
from pathlib import Path
marks = Path(sys.argv[1])
def heard(number, frame):
    with marks.joinpath("heard").open("a") as file:
        file.write(f"{os.getpid()} {number}\\n")
    if number != signal.SIGHUP:
        sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, heard)
marks.joinpath(str(os.getpid())).touch()
while True:
    time.sleep(60)
"""


def parent(program: str, *words: str, grace: float = 30) -> _Children:
    return _Children([sys.executable, "-c", program, *words], grace)


async def run(made: _Children, count: int) -> int:
    async with asyncio.timeout(60):
        return await made.run(count)


async def listening(folder: Path, count: int) -> None:
    async def ready() -> bool:
        return len([name for name in os.listdir(folder) if name.isdigit()]) == count

    await comes_true(ready)


async def test_one_that_cannot_start_ends_its_siblings_which_may_have_ended_themselves() -> None:
    assert await run(parent("raise SystemExit(78)"), 4) == 78


async def test_a_signal_reaches_every_child_once(tmp_path: Path) -> None:
    made = parent(LISTENS, str(tmp_path))
    running = asyncio.create_task(run(made, 3))
    await listening(tmp_path, 3)
    made._send(signal.SIGHUP)

    async def heard(count: int) -> bool:
        file = tmp_path / "heard"
        return file.exists() and len(file.read_text().splitlines()) == count

    await comes_true(lambda: heard(3))
    made._stop(signal.SIGTERM)

    assert await running == 0
    lines = (tmp_path / "heard").read_text().splitlines()
    assert len(set(lines)) == len(lines) == 6


async def test_a_child_that_was_being_started_is_told_to_stop_too() -> None:
    made = parent("import time; time.sleep(60)")
    running = asyncio.create_task(run(made, 2))
    await asyncio.sleep(0)
    made._stop(signal.SIGTERM)

    assert await running == 0


async def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(children, "OVERDUE", 0.1)
    deaf = LISTENS.replace("sys.exit(0)", "pass")
    made = parent(deaf, str(tmp_path), grace=0.1)
    running = asyncio.create_task(run(made, 1))
    await listening(tmp_path, 1)
    made._stop(signal.SIGTERM)

    assert await running == 128 + signal.SIGKILL


async def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)
    program = tmp_path / "program"
    made = _Children([str(program)], 30)
    running = asyncio.create_task(run(made, 1))
    await asyncio.sleep(0.05)
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)

    assert await running == 0
