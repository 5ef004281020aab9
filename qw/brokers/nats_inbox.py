"""Commands from a NATS subject. A JetStream stream stores them; all daemons share one durable consumer."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

from qw.brokers import TIMEOUT, Delivery, SetupRefused
from qw.brokers.nats import connect, covers, drop, ensure_stream, trouble
from qw.core.errors import Unreachable
from qw.core.task.payload import shortened

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

CONSUMER = "qw"
ACK_SECONDS = 60.0  # after which a message that nobody took is delivered again


class NatsInbox:
    """Subject ``qw.commands`` in stream QW_COMMANDS, which also keeps rejected messages as ``qw.commands.failed``."""

    name = "nats"

    def __init__(self, servers: str, subject: str) -> None:
        self._servers = servers
        self.queue = subject
        self._stream = self._own_stream = re.sub(r"[^A-Za-z0-9_-]", "_", subject).upper()
        self._lost = asyncio.Event()
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._subscription: Any = None
        self._open_messages: dict[int, Any] = {}  # neither taken nor refused

    async def open(self) -> None:
        if self._client is not None and self._client.is_connected:
            return
        await self.close()
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
                self._lost = asyncio.Event()
                self._client = await connect(self._servers, self._lost)
                self._jetstream = self._client.jetstream(timeout=TIMEOUT)
                self._subscription = await self._subscribe(self._jetstream)

    async def _subscribe(self, jetstream: JetStreamContext) -> Any:
        from nats.js.api import ConsumerConfig

        subjects = [self.queue, f"{self.queue}.failed"]
        self._stream, *_ = [
            stream
            for stream in await ensure_stream(jetstream, self._own_stream, subjects)
            if await _stores(jetstream, stream, self.queue)
        ]
        config = ConsumerConfig(ack_wait=ACK_SECONDS, filter_subject=self.queue)
        return await jetstream.pull_subscribe(self.queue, durable=CONSUMER, stream=self._stream, config=config)

    async def receive(self, limit: int, timeout: float) -> list[Delivery]:
        await self.open()
        fetch = asyncio.ensure_future(self._subscription.fetch(limit, timeout=timeout))
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({fetch, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not fetch.done():
                raise Unreachable("nats: the connection broke")
            messages = await self._fetched(fetch)
            if not messages:
                await self._check()
            return [self._delivery(message) for message in messages]
        finally:
            for task in (fetch, lost):
                task.cancel()
            await asyncio.gather(fetch, lost, return_exceptions=True)

    async def _check(self) -> None:
        """Create the stream and consumer again if they were deleted, which fetching does not report."""
        from nats.js.errors import NotFoundError

        assert self._jetstream is not None
        try:
            with self._trouble():
                await self._jetstream.consumer_info(self._stream, CONSUMER)
        except SetupRefused as error:
            if isinstance(error.__cause__, NotFoundError):
                await self.close()
            raise

    async def _fetched(self, fetch: asyncio.Future[list[Any]]) -> list[Any]:
        from nats.errors import TimeoutError as NothingCame

        with self._trouble():
            try:
                return await fetch
            except NothingCame:
                return []

    def _delivery(self, message: Any) -> Delivery:
        id = (message.headers or {}).get("Nats-Msg-Id") or f"{self._stream}:{message.metadata.sequence.stream}"
        self._open_messages[message.metadata.sequence.stream] = message
        return Delivery(id=id, body=message.data, receipt=message)

    async def take(self, delivery: Delivery) -> None:
        with self._trouble():
            await self._message(delivery).ack_sync(timeout=TIMEOUT)

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        if self._jetstream is None:
            raise Unreachable("nats: the connection is gone")
        headers = {"reason": shortened(re.sub(r"\s+", " ", reason), 1000)}
        with self._trouble():
            await self._jetstream.publish(f"{self.queue}.failed", delivery.body, headers=headers)
            await self._message(delivery).ack_sync(timeout=TIMEOUT)

    async def close(self) -> None:
        client, self._client, self._jetstream = self._client, None, None
        messages, self._open_messages = self._open_messages, {}
        if client is not None:
            with contextlib.suppress(Exception):
                for message in messages.values():
                    await message.nak()
                await asyncio.wait_for(client.flush(), 1.0)
            await drop(client)

    def _message(self, delivery: Delivery) -> Any:
        message: Any = delivery.receipt
        self._open_messages.pop(message.metadata.sequence.stream, None)
        return message

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        return trouble(self._servers)


async def _stores(jetstream: JetStreamContext, stream: str, subject: str) -> bool:
    return any(covers(own, subject) for own in (await jetstream.stream_info(stream)).config.subjects or [])
