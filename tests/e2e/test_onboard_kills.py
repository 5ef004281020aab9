"""`examples/onboard.py` with real daemons: two weeks on a moved clock, and a daemon that is killed at each wait."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from qw import Client, testing

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 60.0


def onboard() -> Any:
    spec = importlib.util.spec_from_file_location("onboard", EXAMPLES / "onboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.onboard


@contextmanager
def killed_at_the_end(url: str, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "qw", "daemon", "--app", "onboard:app", "--no-http", "--database-url", url]
    with log.open("ab") as file:
        daemon = subprocess.Popen(command, cwd=EXAMPLES, stdout=file, stderr=file)
    try:
        yield
    finally:
        daemon.kill()
        daemon.wait()


async def until(is_true: Callable[[], Awaitable[bool]], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await is_true():
        assert time.monotonic() < deadline, log.read_text()
        await asyncio.sleep(0.05)


async def test_two_weeks_survive_three_kills(qw_client: Client, qw_database: str, tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    task = await onboard().enqueue(qw_client, "ada")

    async def checkpoints() -> dict[str, str | None]:
        return {str(one.key): one.outcome for one in await qw_client.tasks.checkpoints(task.id)}

    async def waits_for(name: str) -> bool:
        return (await checkpoints()).get(name, "") is None

    with killed_at_the_end(qw_database, log):
        await until(lambda: waits_for("trial"), log)
    async with qw_client.connection() as conn:
        await testing.move_clock(conn, timedelta(days=14))
    with killed_at_the_end(qw_database, log):
        await until(lambda: waits_for("answer"), log)
    await qw_client.tasks.signal(task.id, "answer", {"plan": "team", "seats": 3})

    async def is_billed() -> bool:
        return "bill" in await checkpoints()

    with killed_at_the_end(qw_database, log):
        await until(is_billed, log)
    with killed_at_the_end(qw_database, log):
        result = await qw_client.result(task.id, str, timeout=timedelta(seconds=PATIENCE))

    assert result == "INV-3-3"
    assert set((await checkpoints()).values()) == {"completed"}
