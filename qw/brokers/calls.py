"""Remote calls: a request is put into a queue for workers anywhere, and the worker that takes it sends the answer.

Each broker's own request/reply mechanism is used, so a worker needs only its usual client library. A caller keeps one
connection and one reply address. Answers that arrive after the caller has gone are dropped; the task, which its daemon
had claimed, is then dispatched again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from qw.brokers import TIMEOUT
from qw.brokers.trouble import unavailable
from qw.core.errors import Unavailable

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
    from nats.aio.client import Client
    from redis.asyncio import Redis


class RemoteCaller(Protocol):
    async def call(self, queue: str, body: bytes) -> bytes:
        """Lay *body* into *queue* and wait for the answer, however long; cancel it to wait no longer.

        Raises Unavailable when the broker cannot be had, or is lost meanwhile.
        """
        ...

    async def close(self) -> None: ...


class RabbitCaller:
    """A durable queue ``qw.remote.<type>``; the answer goes to ``reply_to`` with the ``correlation_id``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._replies = ""
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._turn = asyncio.Lock()

    async def call(self, queue: str, body: bytes) -> bytes:
        import aio_pika

        from qw.brokers.rabbitmq import Topology

        id = str(uuid4())
        with self._trouble():
            async with self._turn:
                channel = await self._open()
                assert self._connection is not None
                await Topology(self._connection).ensure_queue(queue)
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting[id] = answer
            message = aio_pika.Message(
                body, correlation_id=id, message_id=id, reply_to=self._replies, content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )  # fmt: skip
            try:
                await channel.default_exchange.publish(message, queue, timeout=TIMEOUT)
                return await answer
            finally:
                self._waiting.pop(id, None)

    async def _open(self) -> AbstractChannel:
        from qw.brokers.rabbitmq import connect

        if self._channel is not None and self._connection is not None and not self._connection.is_closed:
            return self._channel
        await self.close()
        async with asyncio.timeout(TIMEOUT):
            self._connection, channel = await connect(self._url)
            self._connection.close_callbacks.add(lambda *_: self._lose())
            replies = await channel.declare_queue(exclusive=True)
            await replies.consume(self._answered, no_ack=True)
            self._replies, self._channel = replies.name, channel
        return channel

    async def _answered(self, message: AbstractIncomingMessage) -> None:
        waiting = self._waiting.get(message.correlation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(message.body)

    def _lose(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("rabbitmq closed the connection"))

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 1.0)

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        from aio_pika.exceptions import AMQPError

        return unavailable("rabbitmq", self._url, AMQPError, RuntimeError)


class NatsCaller:
    """A subject ``qw.remote.<type>``, answered with ``respond``. Without a worker the call fails at once."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._lost = asyncio.Event()
        self._client: Client | None = None
        self._turn = asyncio.Lock()

    async def call(self, queue: str, body: bytes) -> bytes:
        from nats.errors import Error

        with unavailable("nats", self._servers, Error):
            async with self._turn:
                client = await self._open()
            lost = asyncio.ensure_future(self._lost.wait())
            answer = asyncio.ensure_future(client.request(queue, body, timeout=24 * 3600))
            try:
                await asyncio.wait({lost, answer}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    raise Unavailable("nats: the connection broke")
                return (await answer).data
            finally:
                lost.cancel()
                answer.cancel()

    async def _open(self) -> Client:
        from qw.brokers.nats import connect

        if self._client is None or not self._client.is_connected:
            await self.close()
            self._lost = asyncio.Event()
            async with asyncio.timeout(TIMEOUT):
                self._client = await connect(self._servers, self._lost)
        return self._client

    async def close(self) -> None:
        from qw.brokers.nats import drop

        client, self._client = self._client, None
        if client is not None:
            await drop(client)


class RedisCaller:
    """A list ``qw.remote.<type>``, to be read with BLPOP; the answer goes to the list that ``replyTo`` names."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def call(self, queue: str, body: bytes) -> bytes:
        """*body* must be a JSON object: ``replyTo`` is added to it."""
        import orjson
        from redis.exceptions import RedisError

        from qw.brokers.redis import connect

        reply_to = f"{queue}:{uuid4()}"
        request = orjson.dumps({**orjson.loads(body), "replyTo": reply_to})
        with unavailable("redis", self._url, RedisError):
            client = connect(self._url)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await client.rpush(queue, request)
                while (answer := await self._wait(client, reply_to)) is None:
                    pass
                return answer
            except asyncio.CancelledError:
                await client.aclose()  # in the middle of BLPOP
                await client.lrem(queue, 1, request.decode())  # nobody took it, perhaps
                raise
            finally:
                await client.aclose()

    async def _wait(self, client: Redis, reply_to: str) -> bytes | None:
        found: Any = await client.blpop([reply_to], timeout=2)
        return None if found is None else bytes(found[1])

    async def close(self) -> None:
        return None
