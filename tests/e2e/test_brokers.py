"""Real daemons, and real brokers that are killed and frozen under them: what was committed arrives, in order."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from qw.client import Client
from qw.store.ids import new_id
from tests.brokers_services import Server, private, until
from tests.e2e.daemon_process import Daemons
from tests.given import new_task

WORDS = {"task.created": 0, "task.completed": 1}


@pytest.fixture(scope="module", params=["redis", "nats", pytest.param("rabbitmq", marks=pytest.mark.slow)])
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


async def all_told(server: Server, ids: list[UUID]) -> bool:
    told = first_seen(await arrived(server))
    return all(len(told[id]) >= 2 for id in ids)


async def test_fault_49_a_broker_that_is_killed_frozen_and_started_loses_nothing(
    url: str, daemons: Daemons, running: Server
) -> None:
    await outlives(url, daemons, running, 300)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_fault_49_ten_thousand_tasks_outlive_their_broker(url: str, daemons: Daemons, running: Server) -> None:
    await outlives(url, daemons, running, 2500)


async def outlives(url: str, daemons: Daemons, server: Server, part: int) -> None:
    """Four parts of tasks: while all is well, while the broker is dead, while it is frozen, and as the relay dies."""
    settings = {"QW_BROKER_URL": server.url, "QW_EVENTS": "task.created task.completed"}
    daemon = daemons(**settings).ready()
    ids = await enqueue(url, part)
    async with Client(url, size=1) as client:
        await client.wait(ids)

        await asyncio.to_thread(server.kill)
        ids += await enqueue(url, part)
        await client.wait(ids)
        await asyncio.to_thread(server.start)

        server.freeze()
        ids += await enqueue(url, part)
        await client.wait(ids)
        await asyncio.sleep(1)
        server.thaw()

        ids += await enqueue(url, part)
        daemon.kill()
        second = daemons(**settings).ready()
        await client.wait(ids)
        await until(lambda: all_told(server, ids), 60)

    told = first_seen(await arrived(server))
    assert [id for id in ids if told[id] != ["task.created", "task.completed"]] == []
    assert second.is_alive
    second.send(signal.SIGTERM)
    assert await asyncio.to_thread(second.exit_code) == 0


@pytest.mark.slow
async def test_fault_55_a_frozen_relay_is_inherited_from_and_harms_nothing_when_it_thaws(
    url: str, daemons: Daemons, running: Server
) -> None:
    settings = {"QW_BROKER_URL": running.url, "QW_EVENTS": "task.created task.completed"}
    frozen, heir = daemons(**settings).ready(), daemons(**settings).ready()
    ids = await enqueue(url, 200)
    async with Client(url, size=1) as client:
        await client.wait(ids)

        frozen.freeze()
        ids += await enqueue(url, 200)
        await client.wait(ids)
        await until(lambda: all_told(running, ids), 60)
        frozen.thaw()
        ids += await enqueue(url, 200)
        await client.wait(ids)
        await until(lambda: all_told(running, ids), 60)

    told = first_seen(await arrived(running))
    assert [id for id in ids if told[id] != ["task.created", "task.completed"]] == []
    assert frozen.is_alive
    assert heir.is_alive
