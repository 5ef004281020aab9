"""RabbitMQ: a durable topic exchange for CloudEvents, or the durable queue that ``nest`` consumers share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from qw.brokers import TIMEOUT, LoginRefused, Refused, SetupRefused
from qw.brokers.batch import PublishBatch
from qw.brokers.frames import publish_frames
from qw.brokers.trouble import unavailable
from qw.core.errors import Unavailable, Unreachable
from qw.core.event import EventFormat, Message

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection
    from pamqp.common import FieldTable

EXCHANGE = "qw.events"
UNROUTED = "qw.unrouted"  # what no queue was bound for when it came
UNROUTED_LENGTH = 100_000
DEAD_LETTERS, FAILED = "dlx", "failed"


class RabbitBroker:
    """Publishes persistent, mandatory messages with publisher confirms.

    The exchange has an alternate exchange, so that a message without a binding is kept for a day and blocks nothing. A
    message that is returned nevertheless means that exchanges or queues were deleted; it counts as not published.
    """

    name = "rabbitmq"
    max_bytes: int | None = 16 * 1024 * 1024

    def __init__(self, url: str, *, format: EventFormat, queue: str = "task-queue", exchange: str = EXCHANGE) -> None:
        self._url = url
        self._is_nest = format is EventFormat.NEST
        self._queue = queue
        self._exchange = exchange
        self._connection: AbstractConnection | None = None
        self._channel: Any = None  # aiormq's
        self._blocked: str | None = None

    async def open(self) -> None:
        if self._channel is not None and not self._channel.is_closed:
            return
        await self.close()
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
                self._connection, channel = await connect(self._url)
                await self._declare(self._connection)
                self._channel = await channel.get_underlay_channel()

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self.open()
        with self._trouble():
            batch = await self._send(messages)
            await asyncio.wait([batch.settled], timeout=TIMEOUT)
        try:
            if not batch.confirmed:
                self._give_up(batch)
        finally:
            if len(batch.confirmed) < len(messages):
                await self.close()  # a late confirm means nothing to the next connection, which declares all anew
        return batch.confirmed

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 1.0)

    async def _send(self, messages: Sequence[Message]) -> PublishBatch:
        """Write all of them in one go, as `aiormq.Channel.basic_publish` does for one."""
        from aiormq.abc import ChannelFrame

        channel = self._channel
        tags = channel.message_id_delivery_tag
        tags.clear()  # the last batch is settled
        batch = PublishBatch(len(messages), channel.create_future())
        frames = []
        async with channel.lock:
            for message in messages:
                channel.delivery_tag += 1
                channel.confirmations[channel.delivery_tag] = _Confirmation(batch, message.id)
                tags[str(message.id)] = channel.delivery_tag  # how it finds what came back
                frames.append(self._frames(channel, message))
            async with asyncio.timeout(TIMEOUT):
                await channel.write_queue.put(ChannelFrame(payload=b"".join(frames), should_close=False))
        return batch

    def _frames(self, channel: Any, message: Message) -> bytes:
        exchange, key = ("", self._queue) if self._is_nest else (self._exchange, message.topic)
        return publish_frames(channel.number, exchange, key, message, piece=channel.max_content_size)

    async def _declare(self, connection: AbstractConnection) -> None:
        """What others declared before us is used as it is: their arguments are theirs."""
        topology = Topology(connection)
        if self._is_nest:
            await topology.declare_with_dead_letters(self._queue)
            return
        unrouted = f"{self._exchange}.unrouted" if self._exchange != EXCHANGE else UNROUTED
        if not await topology.has_exchange(unrouted):
            await topology.declare_exchange(unrouted, "fanout")
        if not await topology.has_queue(unrouted):
            keep: FieldTable = {
                "x-queue-version": 2, "x-max-length": UNROUTED_LENGTH, "x-message-ttl": 24 * 3600 * 1000
            }  # fmt: skip
            await topology.declare_queue(unrouted, keep)
            await topology.bind(unrouted, unrouted)
        if not await topology.has_exchange(self._exchange):
            await topology.declare_exchange(self._exchange, "topic", {"alternate-exchange": unrouted})

    def _give_up(self, batch: PublishBatch) -> None:
        settled = batch.settled
        error = settled.exception() if settled.done() and not settled.cancelled() else None
        try:
            with self._trouble():
                if found := error or batch.error:
                    raise found
        except Unavailable as trouble:
            if isinstance(found, _nack()):
                raise Refused(
                    "rabbitmq refuses the messages: a queue that is bound to their exchange is full"
                ) from found
            if isinstance(found, _channel_closed()) and not _is_setup(str(found)):  # for what is in a message
                raise Refused(str(trouble)) from found
            raise
        if settled.cancelled():
            reason = "closed the connection"
        elif settled.done():
            raise Refused("rabbitmq gives the messages back: their queue or binding is gone")
        else:
            reason = "does not confirm messages; check for a memory or disk alarm: rabbitmqctl status"
        raise Unavailable(f"rabbitmq {reason}")

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        return trouble(self._url)


class _Confirmation:
    """Takes the place of the future that aiormq keeps for each message."""

    __slots__ = ("_batch", "_id")

    def __init__(self, batch: PublishBatch, id: UUID) -> None:
        self._batch = batch
        self._id = id

    def done(self) -> bool:
        return False  # aiormq forgets what it has answered

    def set_result(self, answer: object) -> None:
        """Handle an acknowledgement or the returned message."""
        from pamqp.commands import Basic

        if isinstance(answer, Basic.Ack):
            self._batch.confirm(self._id)
        else:
            self._batch.refuse()

    def set_exception(self, error: Exception) -> None:
        self._batch.refuse(error)


def _nack() -> type[Exception]:
    from aiormq.exceptions import DeliveryError

    return DeliveryError


def _is_setup(text: str) -> bool:
    """Whether the broker closed the channel because it accepts no message here, whatever is in it."""
    return "NOT_FOUND" in text or "ACCESS_REFUSED - access to exchange" in text


def _channel_closed() -> type[Exception]:
    from aiormq.exceptions import ChannelClosed

    return ChannelClosed


async def connect(url: str) -> tuple[AbstractConnection, AbstractChannel]:
    """A connection and a channel with publisher confirms. Returned messages do not raise."""
    import aio_pika
    from aiormq.exceptions import InvalidFrameError

    try:
        connection = await aio_pika.connect(url, timeout=TIMEOUT, client_properties={"connection_name": "qw"})
    except InvalidFrameError:  # the broker closes instead of opening the vhost; what it says is lost in the library
        vhost = urlsplit(url).path.removeprefix("/") or "/"
        raise SetupRefused(
            f"rabbitmq refuses the setup: vhost {vhost!r} of QW_BROKER_URL is not there, or its user may not use it"
        ) from None
    try:
        return connection, await connection.channel(publisher_confirms=True, on_return_raises=False)
    except BaseException:
        await connection.close()
        raise


class Topology:
    """Checks exchanges and queues and declares missing ones, on separate channels, because an error closes the
    channel.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def has_exchange(self, name: str) -> bool:
        return await self._is_there(lambda channel: channel.declare_exchange(name, passive=True))

    async def has_queue(self, name: str) -> bool:
        return await self._is_there(lambda channel: channel.declare_queue(name, passive=True))

    async def declare_exchange(self, name: str, kind: str, arguments: FieldTable | None = None) -> None:
        async with self._connection.channel() as channel:
            await channel.declare_exchange(name, kind, durable=True, arguments=arguments)

    async def declare_queue(self, name: str, arguments: FieldTable | None = None) -> None:
        async with self._connection.channel() as channel:
            await channel.declare_queue(name, durable=True, arguments=arguments)

    async def bind(self, queue: str, exchange: str, key: str = "") -> None:
        async with self._connection.channel() as channel:
            await (await channel.get_queue(queue, ensure=False)).bind(exchange, key)

    async def ensure_queue(self, name: str) -> None:
        if not await self.has_queue(name):
            await self.declare_queue(name)

    async def declare_with_dead_letters(self, queue: str) -> None:
        """Declare the shared queue as its consumers do, and the target of its dead letters, which they only name.

        An existing queue is used as it is, with or without dead letters.
        """
        if not await self.has_exchange(DEAD_LETTERS):
            await self.declare_exchange(DEAD_LETTERS, "direct")
        await self.ensure_queue(f"{queue}.{FAILED}")
        await self.bind(f"{queue}.{FAILED}", DEAD_LETTERS, FAILED)
        if not await self.has_queue(queue):
            to: FieldTable = {"x-dead-letter-exchange": DEAD_LETTERS, "x-dead-letter-routing-key": FAILED}
            await self.declare_queue(queue, to)

    async def _is_there(self, look: Callable[[AbstractChannel], Awaitable[object]]) -> bool:
        from aio_pika.exceptions import ChannelNotFoundEntity

        channel = await self._connection.channel()
        try:
            await look(channel)
        except ChannelNotFoundEntity:  # and the channel is closed
            return False
        await channel.close()
        return True


def trouble(url: str) -> contextlib.AbstractContextManager[None]:
    """A context that turns errors of aio-pika into Unavailable."""
    from aio_pika.exceptions import AMQPError

    return unavailable("rabbitmq", url, AMQPError, RuntimeError, kind_of=_kind)


def _kind(error: Exception) -> type[Unavailable]:
    from aio_pika.exceptions import AuthenticationError, ChannelClosed, ProbableAuthenticationError

    if isinstance(error, AuthenticationError | ProbableAuthenticationError) or "ACCESS_REFUSED - Login" in str(error):
        return LoginRefused
    if isinstance(error, ChannelClosed) or "NOT_ALLOWED" in str(error) or "vhost" in str(error):
        return SetupRefused
    return Unreachable
