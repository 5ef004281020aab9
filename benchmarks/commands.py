"""The cost of commands: queries of read commands at a million tasks, and commands that change many tasks."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from uuid import UUID

from benchmarks.growth import FILL_FINISHED, FILL_READY, median_ms
from benchmarks.place import Place
from qw.client import Client
from qw.core.task import NewTask
from qw.store.ids import new_ids


async def looks(place: Place) -> AsyncIterator[str]:
    """Common read commands with half a million finished and half a million waiting tasks: the query and the whole
    command.
    """
    with place.connect() as conn:
        for _ in range(5):
            conn.execute(FILL_READY.encode(), {"n": 100_000})
            conn.execute(FILL_FINISHED.encode(), {"n": 100_000})
        conn.execute("insert into qw.tally (queue, live, completed, failed) values ('default', 500000, 495000, 5000)")
        first, last, failed = (
            str(conn.execute(f"select task_id from {source} limit 1".encode()).fetchone()[0])  # type: ignore[index]
            for source in ("qw.ready order by seq", "qw.ready order by seq desc", "qw.finished where status = 'failed'")
        )
    async with Client(place.url, size=1) as client:
        yield f"qw status: {await median_ms(lambda: client.health.overview()):.1f} ms of queries"
        for name, id in (("first", first), ("last", last), ("failed", failed)):
            cost = await median_ms(lambda id=id: client.tasks.why(UUID(id)))
            yield f"qw why, of the {name} task: {cost:.1f} ms of queries"
    bare = _cpu(place, "-c", "pass")
    for words in (("--help",), ("enqueue", "noop"), ("status",), ("why", last)):
        yield f"qw {words[0]}: {_cpu(place, '-m', 'qw', *words) - bare:.0f} ms of processor time above python -c pass"


def _cpu(place: Place, *words: str) -> float:
    """Return the processor time in milliseconds of the command *words*, the median of nine."""
    costs = []
    for _ in range(9):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _run(place, *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
    return statistics.median(costs)


def _run(place: Place, *words: str) -> None:
    subprocess.run([sys.executable, *words], env=place.environ, stdout=subprocess.DEVNULL, check=True)


async def bulk_verbs(place: Place) -> AsyncIterator[str]:
    """Each bulk command on 100,000 tasks, in transactions of 500."""
    async with Client(place.url) as client:
        await client.enqueue_many(NewTask(type="noop", id=id) for id in new_ids(100_000))
    for verb, of in (("cancel", "pending"), ("requeue", "cancelled"), ("retry", "cancelled")):
        started = time.perf_counter()
        words = ("task", verb, "--status", of, "--yes", "--quiet")
        _run(place, "-m", "qw", *words)
        yield f"{verb}: {100_000 / (time.perf_counter() - started):,.0f} tasks/s"
