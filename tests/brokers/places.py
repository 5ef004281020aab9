"""Brokers as the tests see them from the other side: what somebody who listens there has got."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

from qw.brokers import Broker
from qw.brokers.nats import NatsBroker
from qw.brokers.postgres import PostgresBroker
from qw.brokers.rabbitmq import RabbitBroker
from qw.brokers.redis import RedisBroker
from qw.core.event import Event, EventFormat, Message, message
from qw.store.events import EventLog
from qw.store.pool import Pool

SOURCE = "/qw/test"


def told(type: str = "task.completed", *, about: str = "noop", size: int = 0, **fields: Any) -> Message:
    """A message of a task of its own, its result *size* characters long."""
    event = Event(id=uuid4(), type=type, at=datetime.now(UTC), about=about, queue="default", attempt=1,
                  **{"task_id": uuid4(), "result": "x" * size, **fields})  # fmt: skip
    return message(event, EventFormat.CLOUDEVENTS, source=SOURCE)


class Place(Protocol):
    """A broker with names of this test's own."""

    url: str

    async def start(self) -> None:
        """Begin to listen."""
        ...

    def broker(self, url: str | None = None) -> Broker:
        """A provider that publishes there, by way of *url* where that is given."""
        ...

    async def got(self) -> list[dict[str, Any]]:
        """The bodies that are there, in order, duplicates and all."""
        ...

    async def destroy(self) -> None:
        """Take away what is published to, while somebody publishes."""
        ...

    async def close(self) -> None: ...


@dataclass
class RabbitPlace:
    url: str
    exchange: str

    def broker(self, url: str | None = None) -> RabbitBroker:
        return RabbitBroker(url or self.url, format=EventFormat.CLOUDEVENTS, exchange=self.exchange)

    async def start(self) -> None:
        import aio_pika

        self._connection = await aio_pika.connect(self.url)
        self._channel = await self._connection.channel()
        self._bodies: list[dict[str, Any]] = []
        alternate = await self._channel.declare_exchange(f"{self.exchange}.unrouted", "fanout", durable=True)
        arguments: Any = {"alternate-exchange": alternate.name}
        exchange = await self._channel.declare_exchange(self.exchange, "topic", durable=True, arguments=arguments)
        self._queue = await self._channel.declare_queue(exclusive=True)
        await self._queue.bind(exchange, "task.completed.#")

    async def got(self) -> list[dict[str, Any]]:
        while (incoming := await self._queue.get(no_ack=True, fail=False)) is not None:
            assert incoming.delivery_mode == 2
            assert incoming.app_id == "qw"
            self._bodies.append(json.loads(incoming.body))
        return self._bodies

    async def destroy(self) -> None:
        await self._channel.exchange_delete(self.exchange)

    async def close(self) -> None:
        for name in (self.exchange, f"{self.exchange}.unrouted"):
            await self._channel.exchange_delete(name)
        await self._channel.queue_delete(f"{self.exchange}.unrouted")
        await self._connection.close()


@dataclass
class NatsPlace:
    url: str
    name: str

    def broker(self, url: str | None = None) -> NatsBroker:
        return NatsBroker(url or self.url, format=EventFormat.CLOUDEVENTS, stream=self.name, prefix=self.name)

    async def start(self) -> None:
        import nats

        self._client = await nats.connect(self.url)
        self._jetstream = self._client.jetstream()

    async def got(self) -> list[dict[str, Any]]:
        from nats.js.errors import NotFoundError

        bodies = []
        try:
            info = await self._jetstream.stream_info(self.name)
        except NotFoundError:
            return []
        for number in range(info.state.first_seq, info.state.last_seq + 1):
            stored = await self._jetstream.get_msg(self.name, number)
            assert stored.data is not None
            bodies.append(json.loads(stored.data))
        return bodies

    async def destroy(self) -> None:
        await self._jetstream.delete_stream(self.name)

    async def close(self) -> None:
        from nats.js.errors import NotFoundError

        with contextlib.suppress(NotFoundError):
            await self._jetstream.delete_stream(self.name)
        await self._client.close()


@dataclass
class RedisPlace:
    url: str
    stream: str

    def broker(self, url: str | None = None) -> RedisBroker:
        return RedisBroker(url or self.url, format=EventFormat.CLOUDEVENTS, stream=self.stream)

    async def start(self) -> None:
        from redis.asyncio import Redis

        self._client = Redis.from_url(self.url)

    async def got(self) -> list[dict[str, Any]]:
        entries: Any = await self._client.xrange(self.stream)
        return [json.loads(fields[b"body"]) for _, fields in entries]

    async def destroy(self) -> None:
        await self._client.delete(self.stream)

    async def close(self) -> None:
        await self._client.delete(self.stream)
        await self._client.aclose()


@dataclass
class PostgresPlace:
    pool: Pool
    url: str = ""

    async def start(self) -> None:
        return None

    def broker(self, url: str | None = None) -> PostgresBroker:
        return PostgresBroker(EventLog(self.pool.connection))

    async def got(self) -> list[dict[str, Any]]:
        async with self.pool.connection() as conn:
            rows = await (await conn.execute("select body from qw.event order by id")).fetchall()
        return [row[0] for row in rows]

    async def destroy(self) -> None:
        return None

    async def close(self) -> None:
        return None


def ids(bodies: list[dict[str, Any]]) -> list[UUID]:
    return [UUID(body["id"]) for body in bodies]
