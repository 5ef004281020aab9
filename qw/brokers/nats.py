"""NATS: JetStream stores every event, and tells apart by ``Nats-Msg-Id`` what it was given twice within two minutes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qw.brokers import PATIENCE
from qw.brokers.trouble import unavailable
from qw.core.errors import Unavailable
from qw.core.event import TYPES, Format, Message, nest_patterns

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

STREAM = "QW"
DUPLICATE_WINDOW = 120.0  # seconds; what is published again later is stored again
OVERHEAD = 1024  # bytes left for the subject and the headers of a message


class NatsBroker:
    """Subjects ``qw.task.completed.http_request`` in stream QW; for ``nest`` the bare pattern, in stream QW-NEST.

    A subscriber without JetStream, as ``nest`` consumers are, gets the message too: a stream only listens.
    """

    name = "nats"

    def __init__(self, servers: str, *, format: Format, stream: str = STREAM, prefix: str = "qw") -> None:
        self._servers = servers
        self._is_nest = format is Format.NEST
        self._stream = f"{stream}-NEST" if self._is_nest else stream
        self._prefix = "" if self._is_nest else f"{prefix}."
        self._lost = asyncio.Event()
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None

    @property
    def max_bytes(self) -> int | None:
        return None if self._client is None else self._client.max_payload - OVERHEAD

    async def open(self) -> None:
        if self._client is not None and self._client.is_connected:
            return
        await self.close()
        with self._trouble():
            async with asyncio.timeout(PATIENCE):
                self._lost = asyncio.Event()
                self._client = await connect(self._servers, self._lost)
                self._jetstream = self._client.jetstream(timeout=PATIENCE, publish_async_max_pending=10_000)
                await self._declare(self._jetstream)

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self.open()
        jetstream = self._jetstream
        assert jetstream is not None
        with self._trouble():
            async with asyncio.timeout(PATIENCE):
                futures = {message.id: await self._send(jetstream, message) for message in messages}
            await self._wait(futures.values())
        done = {future for future in futures.values() if future.done() and not future.cancelled()}
        confirmed = {id for id, future in futures.items() if future in done and future.exception() is None}
        if len(confirmed) < len(messages):
            for future in futures.values():
                future.cancel()
            await self.close()
        if not confirmed:
            self._give_up(done)
        return confirmed

    async def close(self) -> None:
        client, self._client, self._jetstream = self._client, None, None
        if client is not None:
            await drop(client)

    async def _send(self, jetstream: JetStreamContext, message: Message) -> asyncio.Future[Any]:
        headers = {"Nats-Msg-Id": str(message.id), "content-type": message.content_type}
        return await jetstream.publish_async(f"{self._prefix}{message.topic}", message.body, headers=headers)

    async def _wait(self, futures: Collection[asyncio.Future[Any]]) -> None:
        """Until all are done, the connection is lost (which no future is told of) or the patience is over."""
        lost = asyncio.ensure_future(self._lost.wait())
        acknowledged = asyncio.ensure_future(asyncio.wait(futures))
        try:
            await asyncio.wait({lost, acknowledged}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
            acknowledged.cancel()

    async def _declare(self, jetstream: JetStreamContext) -> None:
        """The stream, unless somebody made it before us: then its limits are theirs, and its subjects must be ours."""
        from nats.js.api import StreamConfig
        from nats.js.errors import NotFoundError

        subjects = nest_patterns() if self._is_nest else [f"{self._prefix}{noun}.>" for noun in _nouns()]
        try:
            info = await jetstream.stream_info(self._stream)
        except NotFoundError:
            config = StreamConfig(
                name=self._stream, subjects=subjects, duplicate_window=DUPLICATE_WINDOW, max_age=7 * 24 * 3600.0
            )
            await jetstream.add_stream(config)
            return
        missing = sorted(set(subjects) - set(info.config.subjects or []))
        if missing:
            info.config.subjects = [*(info.config.subjects or []), *missing]
            await jetstream.update_stream(info.config)

    def _give_up(self, done: set[asyncio.Future[Any]]) -> None:
        error = next((e for future in done if not future.cancelled() and (e := future.exception())), None)
        with self._trouble():
            if isinstance(error, Exception):
                raise error
        raise Unavailable("nats: the connection broke" if self._lost.is_set() else "nats acknowledges nothing")

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        from nats.errors import Error

        return unavailable("nats", self._servers, Error)


async def connect(servers: str, lost: asyncio.Event) -> Client:
    """A connection that sets *lost* when it breaks and does not come back by itself: whoever uses it opens another."""
    from nats.aio.client import Client
    from nats.errors import NoServersError

    errors: list[Exception] = []

    async def remember(error: Exception) -> None:
        errors.append(error)

    async def tell() -> None:
        lost.set()

    client = Client()
    try:
        await client.connect(
            servers=[server.strip() for server in servers.split(",")],
            name="qw",
            allow_reconnect=False,
            connect_timeout=2,
            max_reconnect_attempts=1,
            ping_interval=10,
            max_outstanding_pings=1,
            error_cb=remember,
            disconnected_cb=tell,
        )
    except NoServersError:
        await drop(client)
        raise errors[-1] if errors else Unavailable("nats: no server can be reached") from None
    except BaseException:
        await drop(client)
        raise
    return client


async def drop(client: Client) -> None:
    """Close for good, whatever state it is in."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(client.close(), 1.0)


def _nouns() -> list[str]:
    return sorted({type.partition(".")[0] for type in TYPES})
