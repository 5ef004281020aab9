"""The admitter: when it looks, what it does then, and whom it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from qw.core.queue.limits import limits_of
from qw.core.task import Lane
from qw.services.upkeep.admitter import WAIT_SECONDS, Admitter
from qw.store import claims, queues, tasks
from qw.store.connection import Connection, ReconnectingConnection, connect
from qw.store.listening import notifications
from tests.given import claimed, ended, expect_whole, new_task, registered, value


class Woken(list[Lane]):
    def __call__(self, lanes: Iterable[Lane]) -> None:
        self.extend(lanes)


@pytest.fixture
async def link(url: str) -> AsyncIterator[ReconnectingConnection]:
    made = ReconnectingConnection(url, name="qw test admitter")
    yield made
    await made.close()


async def limit(conn: Connection, name: str = "q", **limits: Any) -> None:
    await queues.set_limits(conn, name, limits_of(limits))


async def put(conn: Connection, count: int, queue: str = "q") -> None:
    await tasks.enqueue(conn, [new_task(queue=queue) for _ in range(count)])


async def ready(conn: Connection, queue: str = "q") -> int:
    return int(await value(conn, "select count(*) from qw.ready where queue = %s", queue))


async def step_to_the_end(admitter: Admitter) -> None:
    while await admitter.step():
        pass


async def test_nothing_is_asked_of_the_database_while_there_are_no_limits(
    conn: Connection, link: ReconnectingConnection
) -> None:
    admitter = Admitter(link, Woken())

    admitter.ask(["q"])

    assert await admitter.step() is False
    assert admitter.bell.is_set() is False
    assert admitter.max_wait() > 60
    assert await value(conn, "select count(*) from pg_stat_activity where application_name = 'qw test admitter'") == 0


async def test_a_look_lets_through_what_the_limit_allows_and_tells_the_lanes(
    conn: Connection, link: ReconnectingConnection
) -> None:
    woken = Woken()
    admitter = Admitter(link, woken)
    await limit(conn, concurrency=2)
    await put(conn, 3)

    admitter.polled(True)
    assert admitter.bell.is_set()
    await step_to_the_end(admitter)

    assert (await ready(conn), woken) == (2, [Lane("q", 5)])
    assert 0 < admitter.max_wait() <= WAIT_SECONDS


async def test_the_end_of_a_task_lets_the_next_through_without_another_look(
    conn: Connection, link: ReconnectingConnection
) -> None:
    admitter = Admitter(link, Woken())
    await limit(conn, concurrency=1)
    await put(conn, 2)
    admitter.polled(True)
    await step_to_the_end(admitter)
    [claim] = await claimed(conn, await registered(conn))
    await claims.end(conn, [ended(claim)])
    admitter.bell.clear()

    admitter.ask(["other"])
    assert not admitter.bell.is_set()
    admitter.ask(["q"])
    assert admitter.bell.is_set()
    await step_to_the_end(admitter)

    assert await ready(conn) == 1


async def test_limits_that_are_gone_are_forgotten(conn: Connection, link: ReconnectingConnection) -> None:
    admitter = Admitter(link, Woken())
    await limit(conn, concurrency=1)
    admitter.polled(True)
    await step_to_the_end(admitter)
    admitter.bell.clear()

    admitter.polled(False)
    admitter.ask(["q"])

    assert not admitter.bell.is_set()


async def test_it_waits_no_longer_than_a_rate_makes_it(conn: Connection, link: ReconnectingConnection) -> None:
    admitter = Admitter(link, Woken())
    await limit(conn, rate="10/s")
    await put(conn, 20)

    admitter.polled(True)
    await step_to_the_end(admitter)

    assert await ready(conn) == 10
    await conn.execute("update qw.ready set queue = 'elsewhere'")
    async with asyncio.timeout(60):
        while not await ready(conn):
            assert admitter.max_wait() <= 0.1
            await asyncio.sleep(admitter.max_wait())
            await step_to_the_end(admitter)


async def test_more_than_a_batch_is_let_through_step_by_step(conn: Connection, link: ReconnectingConnection) -> None:
    admitter = Admitter(link, Woken())
    await limit(conn, concurrency=5000)
    await put(conn, 700)

    admitter.polled(True)

    assert await admitter.step() is True
    assert await ready(conn) == 500
    assert await admitter.step() is False
    assert await ready(conn) == 700


async def test_queues_that_the_daemon_does_not_take_are_left_to_others(
    conn: Connection, link: ReconnectingConnection
) -> None:
    admitter = Admitter(link, Woken(), served=["mine"])
    for name in ("mine", "q"):
        await limit(conn, name, concurrency=1)
        await put(conn, 1, name)

    admitter.polled(True)
    await step_to_the_end(admitter)

    assert (await ready(conn, "mine"), await ready(conn)) == (1, 0)


async def test_what_is_left_in_held_without_a_limit_goes_back(conn: Connection, link: ReconnectingConnection) -> None:
    await limit(conn, concurrency=1)
    await put(conn, 1200)
    await queues.set_limits(conn, "q", None)
    assert await ready(conn) == 0

    admitter = Admitter(link, Woken())
    admitter.polled(True)
    await step_to_the_end(admitter)

    assert await ready(conn) == 1200
    await expect_whole(conn)


async def test_strays_are_brought_under_their_limit(conn: Connection, link: ReconnectingConnection) -> None:
    await put(conn, 1200)
    await limit(conn, concurrency=1)

    admitter = Admitter(link, Woken())
    admitter.polled(True)
    await step_to_the_end(admitter)

    assert await ready(conn) == 1
    await expect_whole(conn)


async def test_another_daemon_that_waits_is_told(conn: Connection, link: ReconnectingConnection, url: str) -> None:
    await limit(conn, concurrency=1)
    await put(conn, 1)
    worker = await registered(conn)
    async with await connect(url) as idle:
        await idle.execute("insert into qw.idle (queue, worker) values ('*', %s)", [worker])
    admitter = Admitter(link, Woken())
    heard = notifications(url, worker)
    await anext(heard)

    admitter.polled(True)
    await step_to_the_end(admitter)

    async with asyncio.timeout(60):
        assert await anext(heard) == ("qw_ready", "q 5")
    await heard.aclose()  # type: ignore[attr-defined]
