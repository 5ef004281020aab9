"""``qw daemon --reload``: the program as it is now runs the next task."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qw import Client
from tests.databases import wait_until
from tests.processes import slowed

APP = "from qw import Handlers\napp = Handlers()\n@app.task()\nasync def version() -> int:\n    return {}\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "reloaded.py"
    file.write_text(APP.format(1))
    return file


@pytest.fixture
def daemon(url: str, program: Path) -> Iterator[subprocess.Popen[bytes]]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QW_", "PG", "DATABASE_"))}
    env = {**kept, "QW_DATABASE_URL": url, "QW_HOME": str(program.parent / "home"), "QW_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "qw", "daemon", "--no-http", "--reload", "--app", "reloaded:app"]
    with (program.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=program.parent, env=env, stderr=log, stdout=log)
    yield process
    process.kill()
    process.wait()


def starts(program: Path) -> int:
    return (program.parent / "log").read_text().count("daemon is ready")


def version(url: str) -> object:
    async def run() -> object:
        async with Client(url, size=1) as client:
            return await client.result((await client.enqueue("version")).id)

    return asyncio.run(run())


def test_a_changed_file_restarts_the_daemon_and_a_broken_one_waits_to_be_mended(
    url: str, program: Path, daemon: subprocess.Popen[bytes]
) -> None:
    log = program.parent / "log"
    wait_until(lambda: starts(program) == 1)
    assert version(url) == 1

    program.write_text("this is no Python\n")
    wait_until(lambda: "SyntaxError" in log.read_text())
    assert daemon.poll() is None

    program.write_text(APP.format(2))
    wait_until(lambda: starts(program) == 2)
    assert version(url) == 2

    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(slowed(20)) == 0
