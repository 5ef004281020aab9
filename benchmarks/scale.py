"""Scaling with the number of daemons: tasks/s and costs per task for 1, 2, 4 and 8 daemon processes.

    python -m benchmarks.scale [--daemons 1,2,4,8] [--ms 0,1,10] [--tasks 100000] [--short]
    python -m benchmarks.scale --ms 10 --slots 10 --tasks 10000
    python -m benchmarks.scale --idle 200

``--slots`` limits the handlers that each daemon runs at once, so that the processors are not the bottleneck; scaling
should then be linear. ``--short`` takes a minute. The database is that of ``python -m benchmarks``. Daemons start
first and wait behind a paused queue; the time runs from its release to the last end. Daemons and PostgreSQL share the
cores of this machine: once all cores are busy, more daemons cannot be faster.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.place import Place, cpu_seconds, named_server, private_server
from qw.client import Client
from qw.core.task import NewTask
from qw.ids import new_ids

SAMPLE_SECONDS = 0.1
IDLE_SECONDS = 20.0
REST_SECONDS = 20.0  # relays poll the outbox for 15 s after their start, and its commits are reported late
APP = "benchmarks.scale_app:app"

_COMMITS = """
select xact_commit from pg_stat_database where datname = current_database() and pg_stat_clear_snapshot() is not null"""
_WAL = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
_WAITS = """
select wait_event_type || ' ' || wait_event from pg_stat_activity
 where datname = current_database() and state = 'active' and wait_event_type <> 'Client' and pid <> pg_backend_pid()"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one drain. Costs are per task. ``busy``: utilisation of this machine's processors, from 0 to 1.

    ``waits``: wait events of the database sessions with the mean number of waiting sessions, highest first.
    """

    seconds: float
    rate: float
    commits: float
    wal: float
    server_micros: float
    daemon_micros: float
    busy: float
    waits: Sequence[tuple[str, float]]


async def drain(place: Place, *, daemons: int, ms: int, tasks: int, slots: int | None) -> Figures:
    """Run *tasks* tasks of *ms* milliseconds each with *daemons* daemons of *slots* slots each."""
    settings = {"QW_CONCURRENCY": str(slots)} if slots else {}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(place.url))
        await client.queues.pause("scale", by="benchmark")
        processes = [
            await stack.enter_async_context(place.daemon("--no-http", "--app", APP, "--queues", "scale", **settings))
            for _ in range(daemons)
        ]
        await until(place, "select count(*) from qw.worker where stopped_at is null", daemons)
        for start in range(0, tasks, 20_000):
            size = min(20_000, tasks - start)
            await client.enqueue_many(
                NewTask(type="pause", id=id, queue="scale", payload={"ms": ms}) for id in new_ids(size)
            )
        before = measure(place), sum(cpu_seconds(process.pid) for process in processes), server_seconds()
        started, worked = time.monotonic(), worked_seconds()
        await client.queues.resume("scale")
        waits = await until(place, "select count(*) from qw.finished", tasks)
        seconds, worked = time.monotonic() - started, worked_seconds() - worked
        await asyncio.sleep(1.5)  # sessions report their commits once per second
        after = measure(place), sum(cpu_seconds(process.pid) for process in processes), server_seconds()
    (commits, wal), (commits_before, wal_before) = after[0], before[0]
    return Figures(
        seconds=seconds,
        rate=tasks / seconds,
        commits=(commits - commits_before) / tasks,
        wal=(wal - wal_before) / tasks,
        server_micros=(after[2] - before[2]) * 1e6 / tasks,
        daemon_micros=(after[1] - before[1]) * 1e6 / tasks,
        busy=worked / seconds / (os.cpu_count() or 1),
        waits=waits,
    )


def measure(place: Place) -> tuple[float, float]:
    return place.number(_COMMITS), place.number(_WAL)


async def until(place: Place, query: str, wanted: int) -> list[tuple[str, float]]:
    """Wait until *query* returns at least *wanted*. Return the wait events of sessions meanwhile, with their mean
    number.
    """
    seen, looks = Counter[str](), 0
    with place.connect() as conn:
        while True:
            row = conn.execute(query).fetchone()
            seen.update(str(wait) for (wait,) in conn.execute(_WAITS).fetchall())
            looks += 1
            if row and int(str(row[0])) >= wanted:
                return [(wait, count / looks) for wait, count in seen.most_common()]
            await asyncio.sleep(SAMPLE_SECONDS)


def worked_seconds() -> float:
    """Return the busy time of all processors of this machine since boot."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle, waits_for_disk = ticks[3:5]
    return (sum(ticks[:8]) - idle - waits_for_disk) / os.sysconf("SC_CLK_TCK")


def server_seconds() -> float:
    """Return the processor time of all PostgreSQL processes of this machine, including their ended children."""
    total = 0.0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "comm").read_text().strip()
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if name == "postgres":
                total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


async def grown(
    server: str, *, daemons: Sequence[int], pauses: Sequence[int], tasks: int, slots: int | None = None
) -> None:
    """Print a table; each row uses a new database."""
    print("| ms | daemons | tasks/s | of linear | commits/1000 | WAL B | PostgreSQL us | daemon us | busy | waiting |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for ms in pauses:
        one = None
        for count in daemons:
            async with Place.fresh(server) as place:
                found = await drain(place, daemons=count, ms=ms, tasks=tasks, slots=slots)
            waits = ", ".join(f"{wait} {count:.2f}" for wait, count in found.waits[:4])
            one = one or found.rate / count
            print(
                f"| {ms} | {count} | {found.rate:,.0f} | {found.rate / one / count:.0%} | {found.commits * 1000:.1f} "
                f"| {found.wal:,.0f} | {found.server_micros:.0f} | {found.daemon_micros:.0f} | {found.busy:.0%} "
                f"| {waits} |",
                flush=True,
            )


async def idle(server: str, daemons: int) -> None:
    """Print the cost of idle daemons."""
    async with Place.fresh(server) as place, AsyncExitStack() as stack:
        for _ in range(daemons):
            await stack.enter_async_context(place.daemon("--no-http"))
        await until(place, "select count(*) from qw.worker where stopped_at is null", daemons)
        await asyncio.sleep(REST_SECONDS)
        before = place.number(_COMMITS)
        await asyncio.sleep(IDLE_SECONDS)
        commits = place.number(_COMMITS) - before
    print(f"{daemons} idle daemons: {commits / IDLE_SECONDS / daemons:.2f} transactions/s each")


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--daemons", type=numbers, default=[1, 2, 4, 8])
    parser.add_argument("--ms", type=numbers, default=[0, 1, 10])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--short", action="store_true", help="1 and 2 daemons, 20,000 tasks")
    parser.add_argument("--idle", type=int, metavar="DAEMONS")
    given = parser.parse_args()
    asyncio.run(_run(given))


async def _run(given: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="qw-bench-") as home,
        named_server() or private_server(Path(home)) as server,
    ):
        if given.idle:
            await idle(server, given.idle)
        elif given.short:
            await grown(server, daemons=[1, 2], pauses=given.ms, tasks=20_000, slots=given.slots)
        else:
            await grown(server, daemons=given.daemons, pauses=given.ms, tasks=given.tasks, slots=given.slots)


if __name__ == "__main__":
    main()
