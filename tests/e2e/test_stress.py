"""Three daemons under kills, stale fences, duplicate keys, cancels and retries; then everything must add up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from uuid import UUID

import pytest

from qw.client import Client
from qw.core.errors import Conflict
from qw.core.task import Status
from qw.core.task.ending import Ending
from qw.store import claims
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection
from tests.databases import wait_until
from tests.e2e.daemon_process import Daemon, Daemons
from tests.e2e.queue import Queue
from tests.given import column, expect_whole, value

STOLEN = Ending(status=Status.COMPLETED, retries=0, crashes=0, result="from a lease long lost")


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_everything_adds_up_after_kills_stale_fences_duplicates_cancels_and_retries(
    daemons: Daemons, queue: Queue, conn: Connection, url: str, seconds: int
) -> None:
    running = [daemons() for _ in range(3)]
    for daemon in running:
        daemon.ready()
    until = time.monotonic() + seconds
    async with Client(url, check_tasks=False) as client:
        await asyncio.gather(
            _produce(client, until),
            _meddle(client, conn, until),
            asyncio.to_thread(_kill, daemons, running, until),
        )
    finals = "select count(*) from qw.task where id not in (select task_id from qw.finished)"
    wait_until(lambda: queue.value(finals) == 0, 60)

    await expect_whole(conn)
    assert await value(conn, "select count(*) from qw.unique_key") == 0
    assert await value(conn, "select count(*) from qw.cancel_request") == 0
    assert await value(conn, "select count(*) from qw.finished where result = '\"from a lease long lost\"'") == 0
    # an attempt that reached its end again had lost its lease, its worker or its place to a retry
    ends = Counter(mark.task for mark in running[0].marks("end"))
    excused = Counter(
        str(id)
        for id in await column(
            conn, "select task_id from qw.attempt where outcome in ('worker_died', 'lease_lost', 'superseded')"
        )
    )
    assert [task for task, count in ends.items() if count > 1 + excused[task]] == []


async def _produce(client: Client, until: float) -> None:
    n = 0
    while time.monotonic() < until:
        n += 1
        try:
            await client.enqueue("flaky", {"n": n}, unique_key=f"key-{n % 50}" if n % 2 else None)
        except Conflict:
            continue
        await asyncio.sleep(0.002)


async def _meddle(client: Client, conn: Connection, until: float) -> None:
    """Cancel, retry, and end attempts by fences that are no longer anybody's."""
    chance = random.Random(7)
    stale: dict[UUID, int] = {}
    while time.monotonic() < until:
        recent = await column(conn, "select id from qw.task order by id desc limit 40")
        some = [id for id in recent if chance.random() < 0.1]
        await client.tasks.cancel(some, running=chance.random() < 0.5)
        await client.tasks.retry([id for id in recent if chance.random() < 0.1])
        rows = await (
            await conn.execute("select task_id, fence from qw.finished order by finished_at desc limit 20")
        ).fetchall()
        stale |= dict(rows)
        await claims.end(
            conn, [EndedAttempt(id=id, fence=f, attempt=1, ending=STOLEN, seconds=1.0) for id, f in stale.items()]
        )
        await asyncio.sleep(0.05)


def _kill(daemons: Daemons, running: list[Daemon], until: float) -> None:
    """One of the three every second and a half, and another in its place."""
    while time.monotonic() < until:
        time.sleep(1.5)
        running.pop(0).kill()
        running.append(daemons().ready())
