"""Limits as handlers see them: never more at once than allowed, whatever dies, is cancelled, retried or handed back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

import pytest

from qw.client import Client
from qw.core.queue.limits import limits_of
from qw.core.task import NewTask, Status
from qw.store.connection import Connection
from qw.store.ids import new_id
from qw.store.tasks import Filter
from tests.databases import wait_until
from tests.e2e.daemon_process import Daemon, Daemons, Mark
from tests.e2e.queue import Queue
from tests.given import column, expect_whole, value

AT_ONCE, PER_KEY, KEYS = 5, 2, 7
OPEN = "select count(*) from qw.task where id not in (select task_id from qw.finished)"


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_no_more_run_at_once_than_the_limits_allow_under_kills_cancels_and_retries(
    daemons: Daemons, queue: Queue, conn: Connection, url: str, seconds: int
) -> None:
    async with Client(url) as client:
        await client.queues.limit("narrow", limits_of({"concurrency": AT_ONCE, "key": "payload.n", "per_key": PER_KEY}))
        running = [daemons().ready() for _ in range(3)]
        until = time.monotonic() + seconds
        await asyncio.gather(
            _produce(client, until),
            _meddle(client, conn, until),
            asyncio.to_thread(_kill, daemons, running, until),
        )
    wait_until(lambda: queue.value(OPEN) == 0, 90)

    await expect_whole(conn)
    marks = running[0].marks()
    keys = {str(id): n for id, n in await (await conn.execute("select id, payload ->> 'n' from qw.task")).fetchall()}
    assert _most_at_once(marks) == AT_ONCE
    per_key = [_most_at_once(mark for mark in marks if keys.get(mark.task, n) == n) for n in set(keys.values())]
    assert max(per_key) == PER_KEY
    assert "killed" in {mark.word for mark in marks}


async def test_a_rate_holds_over_three_daemons(daemons: Daemons, conn: Connection, queue: Queue, url: str) -> None:
    async with Client(url) as client:
        await client.queues.limit("narrow", limits_of({"rate": "20/2s"}))
        for daemon in [daemons() for _ in range(3)]:
            daemon.ready()
        await client.enqueue_many(NewTask(type="noop", id=new_id(), queue="narrow") for _ in range(60))
        wait_until(lambda: queue.value(OPEN) == 0, 60)

    starts = sorted(await column(conn, "select started_at from qw.finished"))
    put_in = await value(conn, "select min(created_at) from qw.task")
    assert len(starts) == 60
    # the bucket of 20, then ten a second: only the least is certain, and the clocks of workers differ a little
    assert starts[39] - put_in >= timedelta(seconds=1.8)
    assert starts[59] - put_in >= timedelta(seconds=3.8)


async def test_limits_change_while_tasks_run(daemons: Daemons, queue: Queue, conn: Connection, url: str) -> None:
    daemon = daemons().ready()
    async with Client(url) as client:
        await client.enqueue_many(
            NewTask(type="nap", id=new_id(), queue="narrow", payload={"seconds": 0.02}) for _ in range(400)
        )
        for limits in ({"concurrency": 1}, {"concurrency": 20}, {"rate": "100/s"}):
            await client.queues.limit("narrow", limits_of(limits))
            await asyncio.sleep(0.3)
        await client.queues.unlimit("narrow")
        wait_until(lambda: queue.value(OPEN) == 0, 60)

    await expect_whole(conn)
    assert Counter(mark.word for mark in daemon.marks()) == {"begin": 400, "end": 400}
    assert await value(conn, "select count(*) from qw.admitted") == 0


def _most_at_once(marks: Iterable[Mark]) -> int:
    """The most attempts that were between their begin and their end. A killed process ends all of its own."""
    going: set[tuple[str, int, int]] = set()
    most = 0
    for mark in marks:
        attempt = (mark.task, mark.attempt, mark.pid)
        match mark.word:
            case "begin":
                going.add(attempt)
            case "end":
                going.discard(attempt)
            case _:
                going = {each for each in going if each[2] != mark.pid}
        most = max(most, len(going))
    return most


async def _produce(client: Client, until: float) -> None:
    """One by one and in bulk, while fewer than 300 wait."""
    chance = random.Random(5)
    while time.monotonic() < until:
        await asyncio.sleep(0.02)
        if len(await client.tasks.find_ids(Filter(status=Status.PENDING), limit=300)) == 300:
            continue
        new = [
            NewTask(type="counted", id=new_id(), queue="narrow", payload={"n": chance.randrange(KEYS)})
            for _ in range(chance.choice([1, 1, 1, 40]))
        ]
        if len(new) == 1:
            await client.enqueue_task(new[0])
        else:
            await client.enqueue_many(new)


async def _meddle(client: Client, conn: Connection, until: float) -> None:
    """Cancel what waits and what runs, retry what failed or was cancelled, pause and resume."""
    chance = random.Random(7)
    while time.monotonic() < until:
        recent = await column(conn, "select id from qw.task order by id desc limit 60")
        busy = await column(conn, "select task_id from qw.running")
        await client.tasks.cancel(
            [id for id in [*recent, *busy] if chance.random() < 0.1], running=chance.random() < 0.5
        )
        await client.tasks.retry([id for id in recent if chance.random() < 0.1])
        if chance.random() < 0.1:
            await client.queues.pause("narrow", by="test")
            await client.queues.resume("narrow")
        await asyncio.sleep(0.05)


def _kill(daemons: Daemons, running: list[Daemon], until: float) -> None:
    """One of the three every second and a half, and another in its place."""
    while time.monotonic() < until:
        time.sleep(1.5)
        killed = running.pop(0)
        killed.kill()
        with (killed.directory / "marks").open("a") as marks:
            marks.write(f"killed - 0 - {killed.process.pid}\n")
        running.append(daemons().ready())
