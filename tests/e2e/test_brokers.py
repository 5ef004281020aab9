"""Real daemons, and real brokers that are killed and frozen under them: what was committed arrives, in order."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from qw.client import Client
from qw.core.errors import Unavailable
from qw.store.ids import new_id
from tests.brokers_services import Server, private, until
from tests.databases import PrivateServer
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import SESSIONS, Queue
from tests.given import new_task

SETTINGS = {"QW_EVENTS": "task.created task.completed"}
LIFE = ["task.created", "task.completed"]


@pytest.fixture(scope="module", params=["redis", "nats", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[Server]:
    with private(request.param) as server:
        yield server


@pytest.fixture
def running(broker: Server) -> Server:
    broker.start()
    broker.thaw()
    return broker


async def arrived(server: Server) -> list[dict[str, Any]]:
    """Every event that the broker has, in its order."""
    return await {"redis": _of_redis, "nats": _of_nats, "rabbitmq": _of_rabbitmq}[server.name](server.url)


async def _of_redis(url: str) -> list[dict[str, Any]]:
    from redis.asyncio import Redis

    async with Redis.from_url(url, socket_timeout=60) as client:
        entries: Any = await client.xrange("qw:events")
        return [json.loads(fields[b"body"]) for _, fields in entries]


async def _of_nats(url: str) -> list[dict[str, Any]]:
    import nats
    import nats.js.errors

    client = await nats.connect(url)
    found = []
    try:
        subscription = await client.jetstream().subscribe("qw.>", ordered_consumer=True)
        while True:
            found.append(json.loads((await subscription.next_msg(0.5)).data))
    except (nats.errors.TimeoutError, nats.js.errors.NotFoundError):  # that was all, or there is no stream yet
        await client.close()
        return found


async def _of_rabbitmq(url: str) -> list[dict[str, Any]]:
    """Without a queue of our own, all of them are where the exchange keeps what nobody asked for."""
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        found: list[dict[str, Any]] = []
        try:
            queue = await channel.get_queue("qw.unrouted")
        except aio_pika.exceptions.ChannelNotFoundEntity:  # nothing was published yet
            return found
        while (incoming := await queue.get(fail=False)) is not None:  # given back when the channel closes
            found.append(json.loads(incoming.body))
        return found


def first_seen(bodies: list[dict[str, Any]]) -> dict[UUID, list[str]]:
    """What each task's reader saw, duplicates by id left out."""
    seen: set[str] = set()
    told: dict[UUID, list[str]] = defaultdict(list)
    for body in bodies:
        if body["id"] not in seen and "taskId" in body["data"]:
            seen.add(body["id"])
            told[UUID(body["data"]["taskId"])].append(body["type"].removeprefix("qw.").removesuffix(".v1"))
    return told


async def enqueue(url: str, count: int) -> list[UUID]:
    ids = [new_id() for _ in range(count)]
    async with Client(url, size=1) as client:
        await client.enqueue_many(new_task(id=id) for id in ids)
    return ids


async def completed(url: str, ids: list[UUID]) -> None:
    async with Client(url, size=1) as client:
        await client.wait(ids)


def is_empty(queue: Queue) -> bool:
    return not queue.value("select exists (select 1 from qw.outbox)")


async def expect_all_told(server: Server, ids: list[UUID]) -> None:
    """Each change arrived, in order; what came twice has the id it had."""
    told = first_seen(await arrived(server))
    assert [id for id in ids if told[id] != LIFE] == []


@pytest.mark.parametrize("broker", ["redis", "nats", pytest.param("rabbitmq", marks=pytest.mark.slow)], indirect=True)
async def test_a_broker_that_is_stopped_killed_frozen_and_started_loses_nothing(
    url: str, queue: Queue, daemons: Daemons, running: Server
) -> None:
    await outlives(url, queue, daemons, running, 1000)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_ten_thousand_tasks_outlive_their_broker(
    url: str, queue: Queue, daemons: Daemons, running: Server
) -> None:
    await outlives(url, queue, daemons, running, 10_000)


async def outlives(url: str, queue: Queue, daemons: Daemons, server: Server, count: int) -> None:
    """Tasks come and go all the time, while the broker does not."""
    daemons(QW_BROKER_URL=server.url, **SETTINGS).ready()
    ids: list[UUID] = []

    async def work(share: float) -> None:
        target = len(ids) + int(count * share)
        while len(ids) < target:
            ids.extend(await enqueue(url, min(100, target - len(ids))))

    async def while_working(share: float, *acts: Callable[[], None]) -> None:
        working = asyncio.create_task(work(share))
        for act in acts:
            await asyncio.to_thread(act)
        await working

    await while_working(0.25, server.stop)
    await while_working(0.25, server.start, server.kill)
    await while_working(0.25, server.start, server.freeze)
    await completed(url, ids)  # no task waits for a broker
    await while_working(0.25, server.thaw)
    await completed(url, ids)
    await until(lambda: is_empty(queue), 120)

    await expect_all_told(server, ids)


@pytest.mark.parametrize("broker", ["redis", "nats", pytest.param("rabbitmq", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.timeout(300)  # reads all that the test before it left at the broker
async def test_a_relay_killed_between_confirm_and_delete_tells_again_under_the_same_ids(
    url: str, queue: Queue, daemons: Daemons, running: Server
) -> None:
    first = daemons(QW_BROKER_URL=running.url, **SETTINGS).ready()
    running.freeze()
    ids = await enqueue(url, 50)
    await completed(url, ids)
    with psycopg.connect(url) as holder:  # so the relay can publish, and not delete
        holder.execute("select from qw.outbox for update")
        running.thaw()
        await until(lambda: queue.value(DELETES), 60)
        first.kill()
        queue.value(SESSIONS)  # or the server would finish what a dead client asked for
    before = [body["id"] for body in await arrived(running)]
    left = {str(event) for event in queue.column("select event from qw.telling")}
    daemons(QW_BROKER_URL=running.url, **SETTINGS).ready()
    await until(lambda: is_empty(queue), 60)
    after = [body["id"] for body in await arrived(running)]

    assert len(left) == 100
    confirmed = left & set(before)  # of one pass or of two
    assert confirmed
    assert set(after) == set(before) | left
    if running.name != "nats":  # which drops what comes again so soon
        assert all(after.count(id) > before.count(id) for id in confirmed)
    await expect_all_told(running, ids)


DELETES = """
    select exists (select 1 from pg_stat_activity where datname = current_database() and application_name = 'qw relay'
                      and wait_event_type = 'Lock' and query like '%delete from qw.outbox%')"""


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
async def test_events_in_postgresql_itself_outlive_its_troubles(
    private_url: str, private_server: PrivateServer, private_daemons: Daemons, count: int
) -> None:
    private_daemons(QW_BROKER="postgres", **SETTINGS).ready()

    def stopped() -> None:
        private_server.stop()
        private_server.start()

    def killed() -> None:
        private_server.kill()
        private_server.start()

    def frozen() -> None:
        with private_server.frozen():
            time.sleep(3)  # longer than the daemon's lease

    ids: list[UUID] = []
    async with Client(private_url, size=1) as client:
        for trouble in (stopped, killed, frozen):
            new = [new_id() for _ in range(count // 3)]
            working = asyncio.create_task(insist(client, new))
            await asyncio.to_thread(trouble)
            await working
            ids += new
    await completed(private_url, ids)

    with psycopg.connect(private_url, autocommit=True) as connection:
        queue = Queue(connection, private_url)
        await until(lambda: is_empty(queue), 60)
        bodies = queue.column("select body from qw.event order by id")
    told = first_seen(bodies)
    assert [id for id in ids if told[id] != LIFE] == []
    assert len({body["id"] for body in bodies}) == len(bodies)


async def insist(client: Client, ids: list[UUID]) -> None:
    """Enqueue under these ids, ten at a time, however often it takes."""
    for start in range(0, len(ids), 10):
        batch = [new_task(id=id) for id in ids[start : start + 10]]
        while True:
            try:
                await client.enqueue_many(batch)
                break
            except Unavailable:
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_frozen_relay_is_inherited_from_and_harms_nothing_when_it_thaws(
    url: str, queue: Queue, daemons: Daemons, running: Server
) -> None:
    settings = {"QW_BROKER_URL": running.url, **SETTINGS}
    frozen, heir = daemons(**settings).ready(), daemons(**settings).ready()
    ids = await enqueue(url, 200)
    async with Client(url, size=1) as client:
        await client.wait(ids)

        frozen.freeze()
        ids += await enqueue(url, 200)
        await client.wait(ids)
        await until(lambda: is_empty(queue), 60)
        frozen.thaw()
        ids += await enqueue(url, 200)
        await client.wait(ids)
        await until(lambda: is_empty(queue), 60)

    await expect_all_told(running, ids)
    assert frozen.is_alive
    assert heir.is_alive
