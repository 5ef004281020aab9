"""Commands in: a message in a broker's queue becomes a task, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from qw.brokers import Inbox
from qw.brokers.nats_inbox import NatsInbox
from qw.brokers.rabbitmq_inbox import RabbitInbox
from qw.brokers.redis_inbox import RedisInbox
from qw.core.errors import Unavailable
from qw.services.execution import consumer
from qw.services.execution.consumer import Consumer
from qw.store.connection import Connection
from qw.store.events import consumers as states
from qw.store.pool import Pool
from tests.brokers_services import Mood, proxied
from tests.given import column, registered, value


@dataclass
class Post:
    """A command queue of this test's own, from the sender's side."""

    inbox: Callable[[str | None], Inbox]
    url: str
    send: Callable[[bytes, str | None], Awaitable[Any]]
    dead: Callable[[], Awaitable[list[tuple[bytes, str]]]]
    destroy: Callable[[], Awaitable[Any]]


@pytest.fixture
async def rabbit_post(rabbitmq_url: str) -> AsyncIterator[Post]:
    import aio_pika

    name = f"qw-test-{os.urandom(5).hex()}"
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()

        async def send(body: bytes, id: str | None) -> None:
            await channel.default_exchange.publish(aio_pika.Message(body, message_id=id), name)

        async def dead() -> list[tuple[bytes, str]]:
            queue = await channel.get_queue(f"{name}.failed")
            found = []
            while (incoming := await queue.get(no_ack=True, fail=False)) is not None:
                found.append((incoming.body, str(incoming.headers["reason"])))
            return found

        await channel.declare_queue(name, durable=True)
        yield Post(
            lambda url: RabbitInbox(url or rabbitmq_url, name),
            rabbitmq_url,
            send,
            dead,
            lambda: channel.queue_delete(name),
        )
        for queue in (name, f"{name}.failed"):
            await channel.queue_delete(queue)


@pytest.fixture
async def nats_post(nats_url: str) -> AsyncIterator[Post]:
    import nats

    name = f"qw-test-{os.urandom(5).hex()}"
    client = await nats.connect(nats_url)
    jetstream = client.jetstream()
    first = NatsInbox(nats_url, name)
    await first.open()  # there is nowhere to send to before
    await first.close()

    async def send(body: bytes, id: str | None) -> None:
        await jetstream.publish(name, body, headers={"X-Id": id} if id else None)

    async def dead() -> list[tuple[bytes, str]]:
        info = await jetstream.stream_info(name.upper())
        stored = [
            await jetstream.get_msg(name.upper(), n) for n in range(info.state.first_seq, info.state.last_seq + 1)
        ]
        return [(m.data or b"", (m.headers or {})["reason"]) for m in stored if m.subject == f"{name}.failed"]

    yield Post(
        lambda url: NatsInbox(url or nats_url, name),
        nats_url,
        send,
        dead,
        lambda: jetstream.delete_stream(name.upper()),
    )
    await jetstream.delete_stream(name.upper())
    await client.close()


@pytest.fixture
async def redis_post(redis_url: str) -> AsyncIterator[Post]:
    from redis.asyncio import Redis

    name = f"qw-test-{os.urandom(5).hex()}"
    async with Redis.from_url(redis_url) as client:

        async def send(body: bytes, id: str | None) -> None:
            fields: dict[Any, Any] = {"body": body, **({"id": id} if id else {})}
            await client.xadd(name, fields)

        async def dead() -> list[tuple[bytes, str]]:
            entries: Any = await client.xrange(f"{name}.failed")
            return [(fields[b"body"], fields[b"reason"].decode()) for _, fields in entries]

        yield Post(lambda url: RedisInbox(url or redis_url, name), redis_url, send, dead, lambda: client.delete(name))
        await client.delete(name, f"{name}.failed")


@pytest.fixture(params=["rabbitmq", "nats", "redis"])
def post(request: pytest.FixtureRequest) -> Post:
    found: Post = request.getfixturevalue(f"{ {'rabbitmq': 'rabbit'}.get(request.param, request.param) }_post")
    return found


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "WAIT_SECONDS", 0.3)


def command(id: str | None = None, **payload: object) -> bytes:
    data: dict[str, Any] = {"taskType": "noop", "payload": payload, **({"taskId": id} if id else {})}
    return json.dumps({"pattern": "task.created", "data": data}).encode()


async def test_a_command_becomes_a_task_and_is_gone(post: Post, pool: Pool, conn: Connection) -> None:
    taking = Consumer(pool, post.inbox(None), lambda: 1)
    await post.send(command(n=1), None)
    await post.send(command(n=2), None)

    while taking.taken < 2:
        await taking.step()
    await taking.stop()
    again = Consumer(pool, post.inbox(None), lambda: 1)
    await again.step()
    await again.stop()

    assert await column(conn, "select payload ->> 'n' from qw.task order by 1") == ["1", "2"]
    assert again.taken == 0


async def test_a_command_that_comes_twice_makes_one_task(post: Post, pool: Pool, conn: Connection) -> None:
    taking = Consumer(pool, post.inbox(None), lambda: 1)
    document = {"specversion": "1.0", "id": "order-7", "source": "/shop", "type": "x",
                "data": {"taskType": "noop", "payload": {}}}  # fmt: skip
    for _ in range(2):
        await post.send(json.dumps(document).encode(), "order-7")

    while taking.taken < 2:
        await taking.step()
    await taking.stop()

    assert await value(conn, "select count(*) from qw.task") == await value(conn, "select count(*) from qw.idempotency")


async def test_what_cannot_be_read_goes_to_the_dead_letters_with_the_reason(
    post: Post, pool: Pool, conn: Connection
) -> None:
    taking = Consumer(pool, post.inbox(None), lambda: 1)
    unknown = command().replace(b"noop", b"nop")
    for body in (b"{not json", unknown):
        await post.send(body, None)
    await post.send(command(n=3), None)

    while taking.taken + taking.refused < 3:
        await taking.step()
    await taking.stop()

    dead = await post.dead()
    assert [body for body, _ in dead] == [b"{not json", unknown]
    assert "not JSON" in dead[0][1]
    assert "unknown task type 'nop'; did you mean 'noop'?" in dead[1][1]
    assert await value(conn, "select count(*) from qw.task") == 1


async def test_own_messages_are_skipped(post: Post, pool: Pool, conn: Connection) -> None:
    taking = Consumer(pool, post.inbox(None), lambda: 1)
    own = {"specversion": "1.0", "id": "1", "source": "/qw/shop", "type": "qw.task.created.v1",
           "data": {"taskType": "noop"}}  # fmt: skip
    await post.send(json.dumps(own).encode(), "1")

    while not taking.taken:
        await taking.step()
    await taking.stop()

    assert await value(conn, "select count(*) from qw.task") == 0


async def test_while_the_database_is_away_a_command_stays(
    post: Post, pool: Pool, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "FIRST_PAUSE", 0.0)
    taking = Consumer(pool, post.inbox(None), lambda: 1)
    await post.send(command(n=1), "m-1")

    async def away(*_: object) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr("qw.store.tasks.enqueue_keyed", away)
        while not taking._failures:
            await taking.step()
    while not taking.taken:
        await taking.step()
    await taking.stop()

    assert await value(conn, "select count(*) from qw.task") == 1
    assert await post.dead() == []


async def test_a_lost_broker_is_waited_for(
    post: Post, pool: Pool, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "FIRST_PAUSE", 0.01)
    async with proxied(post.url) as proxy:
        worker = await registered(conn)
        taking = Consumer(pool, post.inbox(proxy.url), lambda: worker)
        await taking.step()

        proxy.mood = Mood.DOWN
        while taking._failures < 2:
            await asyncio.sleep(taking.max_wait())
            await taking.step()
        (down,) = await states(conn)
        await post.send(command(n=1), "m-1")
        proxy.mood = Mood.OPEN
        while not taking.taken:
            await asyncio.sleep(taking.max_wait())
            await taking.step()
        (up,) = await states(conn)
        await taking.stop()

    assert await value(conn, "select count(*) from qw.task") == 1
    assert (down.state, down.queue, up.state, up.error) == ("down", taking._inbox.queue, "up", None)
    assert taking._inbox.name in str(down.error)


async def test_a_queue_that_was_deleted_beneath_its_reader_is_declared_again(
    post: Post, pool: Pool, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "FIRST_PAUSE", 0.01)
    worker = await registered(conn)
    taking = Consumer(pool, post.inbox(None), lambda: worker)
    await taking.step()
    await post.destroy()

    async with asyncio.timeout(60):
        while not taking.taken:
            with contextlib.suppress(Exception):  # there is nowhere to send to yet
                await post.send(command(n=1), "m-1")
            await asyncio.sleep(taking.max_wait())
            await taking.step()
    await taking.stop()

    assert await value(conn, "select count(*) from qw.task") == 1
