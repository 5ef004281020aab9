"""Consumers of the system before qw go on working: each transport's loop as NestJS runs it, on the wire.

A NestJS server reads ``{"pattern", "data"}``; without an ``id`` it is an event, given to the handlers of its pattern.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from qw.brokers.nats import NatsBroker
from qw.brokers.rabbitmq import RabbitBroker
from qw.brokers.redis import RedisBroker
from qw.core.event import Event, EventFormat, Message, message
from tests.brokers_services import private, until

Handler = Callable[[Any], None]


class Nest:
    """What handles a pattern, and what a message does that nobody handles."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.handlers: dict[str, Handler] = {
            "http.request": lambda data: self.done.append((data["taskId"], data["taskType"])),
            "task.created": lambda data: self.done.append((data["taskId"], data["taskType"])),
        }

    def handle(self, raw: bytes) -> bool:
        packet = json.loads(raw)
        assert set(packet) == {"pattern", "data"}
        assert datetime.fromisoformat(packet["data"]["metadata"]["createdAt"])
        handler = self.handlers.get(packet["pattern"])
        if handler is not None:
            handler(packet["data"])
        return handler is not None


def told(about: str, type: str = "task.created") -> Message:
    event = Event(id=uuid4(), type=type, at=datetime.now(UTC), task_id=uuid4(), about=about)
    return message(event, EventFormat.NEST, source="/qw/test")


MESSAGES = [told("http_request"), told("resize")]
EXPECTED = [(str(m.task_id), type) for m, type in zip(MESSAGES, ("http_request", "resize"), strict=True)]


async def test_a_rabbitmq_consumer_gets_its_tasks_and_its_failures_reach_the_dead_letters(rabbitmq_url: str) -> None:
    import aio_pika

    nest, queue_name = Nest(), f"qw-test-{os.urandom(5).hex()}"
    broker = RabbitBroker(rabbitmq_url, format=EventFormat.NEST, queue=queue_name)
    unknown = told("send_email")

    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        arguments: Any = {"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "failed"}
        queue = await channel.declare_queue(queue_name, durable=True, arguments=arguments)

        async def consume(incoming: aio_pika.abc.AbstractIncomingMessage) -> None:
            assert not incoming.correlation_id
            assert not incoming.reply_to
            if nest.handle(incoming.body):
                await incoming.ack()
            else:
                await incoming.nack(requeue=False)

        await queue.consume(consume)
        confirmed = await broker.publish([*MESSAGES, unknown])
        await until(lambda: len(nest.done) == 2)
        failed = await channel.get_queue(f"{queue_name}.failed")
        dead = await failed.get(no_ack=True, timeout=5)
        await broker.close()
        for name in (queue_name, f"{queue_name}.failed"):
            await channel.queue_delete(name)

    assert len(confirmed) == 3
    assert nest.done == EXPECTED
    assert dead is not None
    assert json.loads(dead.body)["data"]["taskId"] == str(unknown.task_id)


async def test_a_nats_consumer_of_the_queue_group_gets_its_tasks_once() -> None:
    import nats

    with private("nats") as server:
        nest = Nest()
        broker = NatsBroker(server.url, format=EventFormat.NEST)
        client = await nats.connect(server.url)

        async def consume(incoming: Any) -> None:
            nest.handle(incoming.data)

        for pattern in nest.handlers:
            for _ in range(2):
                await client.subscribe(pattern, queue="task-queue", cb=consume)
        await client.flush()
        confirmed = await broker.publish(MESSAGES)
        await until(lambda: len(nest.done) == 2)
        await broker.close()
        await client.drain()  # whatever else was sent here is handled first

    assert len(confirmed) == 2
    assert sorted(nest.done) == sorted(EXPECTED)


async def test_a_redis_consumer_gets_its_tasks(redis_url: str) -> None:
    from redis.asyncio import Redis

    nest, stream = Nest(), f"qw-test-{os.urandom(5).hex()}"
    mine = {id for id, _ in EXPECTED}
    broker = RedisBroker(redis_url, format=EventFormat.NEST, stream=stream)
    async with Redis.from_url(redis_url) as client, client.pubsub() as subscriber:
        await subscriber.subscribe(*nest.handlers)
        await broker.publish(MESSAGES)
        async with asyncio.timeout(60):
            while len(nest.done) < 2:
                incoming = await subscriber.get_message(ignore_subscribe_messages=True, timeout=1)
                if incoming and json.loads(incoming["data"])["data"]["taskId"] in mine:
                    nest.handle(incoming["data"])
        await broker.close()
        await client.delete(stream)

    assert nest.done == EXPECTED
