"""The effect of a large or bloated queue on claims and lists."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator

from benchmarks.place import Place
from qw.client import Client
from qw.core.task import Claim, Lane, NewTask, Status
from qw.core.task.ending import Ending
from qw.services.execution.lanes import Lanes
from qw.store import claims, tasks, workers
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, connect_blocking, connect_guarded, query
from qw.store.ids import new_ids

DONE = Ending(status=Status.COMPLETED, retries=0, crashes=0)
_NEW = """
    with new as (
      insert into qw.task (id, queue, type, payload, priority)
      select qw.new_id(), 'default', 'noop', '{}', 5 from generate_series(1, %(n)s) returning id
    )"""
FILL_READY = f"""{_NEW}
    insert into qw.ready (task_id, queue, priority) select id, 'default', 5 from new"""
FILL_FINISHED = f"""{_NEW}
    insert into qw.finished (task_id, status, fence, attempt, retries, crashes, worker, started_at, error)
    select id, case n %% 100 when 0 then 'failed' else 'completed' end, n, 1, 0, 0, 1, now(),
           case n %% 100 when 0 then 'it broke' end
      from (select id, row_number() over () as n from new) x"""


async def snapshot(place: Place) -> AsyncIterator[str]:
    """Claims of 100 tasks while a REPEATABLE READ snapshot is held and 200,000 tasks are enqueued and completed."""
    conn = await connect_guarded(place.url, name="bench")
    worker = _worker(place)
    holder = place.connect()
    async with conn, Client(place.url) as client:
        await client.enqueue_many(NewTask(type="noop", id=id) for id in new_ids(20_000))
        lanes = Lanes()
        before = await _claims(conn, worker, lanes, 50)
        holder.execute("begin isolation level repeatable read")
        holder.execute("select count(*) from qw.ready")
        costs: list[float] = []
        for _ in range(20):
            await client.enqueue_many(NewTask(type="noop", id=id) for id in new_ids(10_000))
            costs += await _claims(conn, worker, lanes, 100)
    holder.close()
    first, last = statistics.median(before), statistics.median(costs[-200:])
    yield f"claim of 100: {first:.2f} ms without, {last:.2f} ms at the end ({last / first:.2f}x), snapshot held"


async def million(place: Place) -> AsyncIterator[str]:
    """Claims of 100 tasks with a million finished and a million waiting tasks; also lists and counts."""
    conn = await connect_guarded(place.url, name="bench")
    worker = _worker(place)
    async with conn, Client(place.url) as client:
        await client.enqueue_many(NewTask(type="noop", id=id) for id in new_ids(20_000))
        lanes = Lanes()
        before = await _claims(conn, worker, lanes, 50)
        for _ in range(10):
            await query(conn, FILL_READY, {"n": 100_000})
            await query(conn, FILL_FINISHED, {"n": 100_000})
        after = await _claims(conn, worker, lanes, 50)
        first, last = statistics.median(before), statistics.median(after)
        ratio = f"{last / first:.2f}x"
        yield f"claim of 100: {first:.2f} ms at 20,000, {last:.2f} ms at 1 M finished and 1 M waiting ({ratio})"
        for status in (Status.FAILED, Status.PENDING, Status.COMPLETED):
            cost = await median_ms(lambda s=status: client.tasks.find(tasks.Filter(status=s)))
            yield f"list of 100 {status} tasks: {cost:.1f} ms"
        yield f"counts by queue: {await median_ms(client.queues.stats):.1f} ms"


def _worker(place: Place) -> int:
    conn = connect_blocking(place.url, name="bench")
    with conn:
        return workers.register(conn, host="bench", pid=1, version="0", types=["noop"], queues=[], slots={})


async def _claims(conn: Connection, worker: int, lanes: Lanes, count: int) -> list[float]:
    """Claim and end 100 tasks, *count* times, as the worker does. Return the milliseconds of each claim."""
    costs = []
    for _ in range(count):
        lanes.add([Lane("default", 5)])
        started = time.perf_counter()
        shares = lanes.shares(100, started)
        taken = await claims.claim(conn, worker, shares, room=100)
        cost = time.perf_counter() - started
        lanes.claimed(shares, taken, room=100, cost=cost, now=time.perf_counter())
        costs.append(cost * 1000)
        await claims.end(conn, [_ended(claim) for claim in taken])
    return costs


def _ended(claim: Claim) -> EndedAttempt:
    return EndedAttempt(id=claim.id, fence=claim.fence, attempt=claim.attempt, ending=DONE, seconds=0.001)


async def median_ms(act) -> float:  # type: ignore[no-untyped-def]
    costs = []
    for _ in range(9):
        started = time.perf_counter()
        await act()
        costs.append((time.perf_counter() - started) * 1000)
    return statistics.median(costs)
