"""The cost of durable functions: calling another task, suspending, and a hundred thousand suspended functions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import qw
from benchmarks.place import Place, cpu_seconds
from qw.client import Client

app = qw.Handlers()
WAITING = 100_000
LEFT = "select (select count(*) from qw.ready) + (select count(*) from qw.running)"
THERE_AND_BACK = """
    select percentile_cont(%s) within group (
             order by ((f.result #>> '{}')::float8 - extract(epoch from c.at)::float8) * 1000)
      from qw.finished f join qw.checkpoint c on c.task_id = f.task_id where c.kind = 'call'"""
SUSPEND_MANY = """
    with new as (
      insert into qw.task (id, queue, type, payload, priority)
      select qw.new_id(), 'default', 'waiter', '{}', 5 from generate_series(1, %(n)s) returning id
    ), places as (
      insert into qw.checkpoint (task_id, name, kind, place, fence) select id, 'go', 'signal', 1, 1 from new
    )
    insert into qw.scheduled (task_id, run_at, queue, priority, attempt, reason, fence, most_open)
    select id, 'infinity', 'default', 5, 1, 'signal go', 1, 0 from new"""


@app.task()
async def called() -> None: ...


@app.task()
async def caller(context: qw.Context) -> float:
    """Return the time at which the answer arrived."""
    await context.call(called)
    return time.time()


@app.task()
async def waiter(context: qw.Context, rounds: int = 1) -> None:
    for _ in range(rounds):
        await context.wait_signal("go")


async def call(place: Place) -> AsyncIterator[str]:
    """Time from the call of another task to its answer, ten per second. The clocks of database and client must
    agree.
    """
    async with place.daemon("--app", "benchmarks.durable:app"), Client(place.url) as client:
        await asyncio.sleep(2)
        for _ in range(100):
            await client.enqueue("caller")
            await asyncio.sleep(0.1)
        while place.number(LEFT):
            await asyncio.sleep(0.1)
    p50, p99 = (place.number(THERE_AND_BACK.replace("%s", share)) for share in ("0.5", "0.99"))
    yield f"p50 {p50:.1f} ms, p99 {p99:.1f} ms from the call of another task to its answer, ten a second"


async def suspensions(place: Place) -> AsyncIterator[str]:
    """Processor time of the daemon and its sessions per suspension and resumption by a signal."""
    count, rounds = 200, 5
    async with place.daemon("--app", "benchmarks.durable:app") as process, Client(place.url) as client:
        tasks = [await client.enqueue("waiter", {"rounds": rounds}) for _ in range(count)]
        await _suspended(place, count)
        before = cpu_seconds(process.pid), _session_seconds(place)
        for n in range(rounds):
            for task in tasks:
                await client.tasks.signal(task.id, "go")
            await (_suspended(place, count) if n < rounds - 1 else _ended(place, count))
        after = cpu_seconds(process.pid), _session_seconds(place)
    worker, sessions = ((b - a) * 1000 / (count * rounds) for a, b in zip(before, after, strict=True))
    yield f"{worker:.2f} ms of the daemon and {sessions:.2f} ms of its sessions for a suspension and its resumption"


async def waiting(place: Place) -> AsyncIterator[str]:
    """Cost of 100,000 suspended functions: processor time of an idle daemon, and one resumption."""
    for count in (0, WAITING):
        if count:
            with place.connect() as conn:
                conn.execute(SUSPEND_MANY, {"n": count})
                conn.execute("analyze qw.scheduled, qw.checkpoint, qw.task")
        async with place.daemon("--app", "benchmarks.durable:app") as process, Client(place.url) as client:
            await asyncio.sleep(12)
            before = cpu_seconds(process.pid), _session_seconds(place)
            await asyncio.sleep(20)
            idle = [
                (b - a) / 20 for a, b in zip(before, (cpu_seconds(process.pid), _session_seconds(place)), strict=True)
            ]
            took = [await _resumed(place, client) for _ in range(20)]
        size = place.number(
            "select sum(pg_total_relation_size(c)) from unnest('{qw.scheduled,qw.checkpoint}'::regclass[]) c"
        )
        yield (
            f"{count:,} wait: daemon {idle[0]:.2%} and its sessions {idle[1]:.2%} of a core,"
            f" a signal to the end of its task {sorted(took)[10]:.1f} ms, state {size / 1e6:.0f} MB"
        )


async def _resumed(place: Place, client: Client) -> float:
    task = await client.enqueue("waiter")
    while not place.number(f"select count(*) from qw.scheduled where task_id = '{task.id}'"):
        await asyncio.sleep(0.01)
    started = time.monotonic()
    await client.tasks.signal(task.id, "go")
    await client.wait([task.id])
    return (time.monotonic() - started) * 1000


async def _suspended(place: Place, count: int) -> None:
    query = "select count(*) from qw.scheduled where fence is not null and not exists (select 1 from qw.task_signal)"
    while place.number(query) < count:
        await asyncio.sleep(0.02)


async def _ended(place: Place, count: int) -> None:
    while place.number("select count(*) from qw.finished") < count:
        await asyncio.sleep(0.02)


def _session_seconds(place: Place) -> float:
    """Return the processor time of the daemon's sessions (their names begin with qw), if the server is on this
    machine.
    """
    with place.connect() as conn:
        pids = conn.execute(
            "select pid from pg_stat_activity where datname = current_database()"
            " and application_name like 'qw %' and application_name not like '%client%'"
        ).fetchall()
    return sum(cpu_seconds(int(str(pid))) for (pid,) in pids if Path(f"/proc/{pid}/stat").exists())
