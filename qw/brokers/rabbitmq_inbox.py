"""Commands from a durable queue of RabbitMQ."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from qw.brokers import TIMEOUT, Delivery, SetupRefused
from qw.brokers.rabbitmq import FAILED, Topology, connect, trouble
from qw.core.errors import Unreachable
from qw.core.task.payload import shortened

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

PREFETCH = 100


class RabbitInbox:
    """Queue ``qw.commands``; messages that cannot be read go to ``qw.commands.failed`` with the header ``reason``."""

    name = "rabbitmq"

    def __init__(self, url: str, queue: str) -> None:
        self._url = url
        self.queue = queue
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    async def open(self) -> None:
        if self._connection is not None and not self._connection.is_closed:
            return
        await self.close()
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
                self._connection, self._channel = await connect(self._url)
                await self._channel.set_qos(prefetch_count=PREFETCH)
                topology = Topology(self._connection)
                await topology.ensure_queue(f"{self.queue}.{FAILED}")
                await topology.ensure_queue(self.queue)
                queue = await self._channel.get_queue(self.queue, ensure=False)
                arrived = self._arrived = asyncio.Queue[Any]()
                self._connection.close_callbacks.add(lambda *_: arrived.put_nowait(None))
                await queue.consume(arrived.put)

    async def receive(self, limit: int, timeout: float) -> list[Delivery]:
        await self.open()
        deliveries: list[Delivery] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                deliveries.append(self._delivery(await self._arrived.get()))
        if not deliveries:
            await self._check()
        while len(deliveries) < limit and deliveries and not self._arrived.empty():
            deliveries.append(self._delivery(self._arrived.get_nowait()))
        return deliveries

    async def _check(self) -> None:
        """Declare everything again if the queue was deleted, which its consumers are not told."""
        assert self._connection is not None
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
                is_there = await Topology(self._connection).has_queue(self.queue)
        if not is_there:
            await self.close()
            raise SetupRefused(f"rabbitmq has no queue {self.queue} any more")

    def _delivery(self, message: AbstractIncomingMessage | None) -> Delivery:
        if message is None:
            raise Unreachable("rabbitmq closed the connection")
        return Delivery(id=message.message_id, body=message.body, receipt=message)

    async def take(self, delivery: Delivery) -> None:
        with self._trouble():
            await self._message(delivery).ack()

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        import aio_pika

        channel, message = self._channel, self._message(delivery)
        if channel is None:
            raise Unreachable("rabbitmq: the connection is gone")
        headers = {**message.headers, "reason": shortened(reason, 1000)}
        copy = aio_pika.Message(
            message.body, headers=headers, message_id=message.message_id, content_type=message.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )  # fmt: skip
        with self._trouble():
            await channel.default_exchange.publish(copy, f"{self.queue}.{FAILED}", timeout=TIMEOUT)
            await message.ack()

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 1.0)

    def _message(self, delivery: Delivery) -> Any:
        return delivery.receipt

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        return trouble(self._url)
