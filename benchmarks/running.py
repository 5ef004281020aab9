"""The speed of running tasks, the delay before they start, and the cost of an idle daemon."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.place import Place, cpu_seconds
from qw.client import Client
from qw.core.task import NewTask
from qw.store.ids import new_ids

LEFT = "select (select count(*) from qw.ready) + (select count(*) from qw.running)"
RATE = """
    select count(*) / greatest(extract(epoch from max(finished_at) - min(started_at)), 0.001)
      from qw.finished where finished_at > to_timestamp(%s)"""


async def drain(place: Place) -> AsyncIterator[str]:
    """Run no-op tasks that wait when the daemon starts: from the first start to the last end, by the database's
    clock.
    """
    for count in (20_000, 20_000, 20_000, 200_000):
        async with Client(place.url) as client:
            await client.enqueue_many(NewTask(type="noop", id=id) for id in new_ids(count))
        since = time.time()
        async with place.daemon() as process:
            while place.number(LEFT):
                await asyncio.sleep(0.1)
            rss = _status(process.pid, "VmHWM") / 1024
        rate = place.number(RATE.replace("%s", str(since)))
        yield f"{rate:,.0f} tasks/s, {count:,} preloaded, one daemon, worker's peak memory {rss:.0f} MB"


async def pickup(place: Place) -> AsyncIterator[str]:
    """Time from just before the enqueue call to the handler's start, 20 per second to an idle daemon."""
    waits = []
    async with place.daemon(), Client(place.url) as client:
        await asyncio.sleep(2)
        for _ in range(200):
            called = time.time()
            task = await client.enqueue("noop")
            await asyncio.sleep(0.05)
            done = (await client.wait([task.id]))[0]
            assert done.started_at is not None
            waits.append((done.started_at.timestamp() - called) * 1000)
    waits.sort()
    yield f"p50 {waits[100]:.1f} ms, p99 {waits[198]:.1f} ms from the enqueue call to the start"


async def idle(place: Place) -> AsyncIterator[str]:
    """Cost of an idle daemon over 20 s."""
    count = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
    async with place.daemon() as process:
        await asyncio.sleep(20)  # transactions of the start are reported up to 10 s late, when sessions become idle
        with place.connect() as conn:  # one connection, so that measuring adds no load
            before = _one(conn, count), cpu_seconds(process.pid)
            await asyncio.sleep(20)
            after = _one(conn, count), cpu_seconds(process.pid)
    transactions, cpu = (after[0] - before[0]) / 20, (after[1] - before[1]) / 20
    yield f"{transactions:.1f} transactions/s, {cpu:.1%} of a core"


def _one(conn, sql: str) -> float:  # type: ignore[no-untyped-def]
    return float(conn.execute(sql).fetchone()[0])


def _status(pid: int, key: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(key)).split()[1])


__all__ = ["drain", "idle", "pickup", "statistics"]
