"""NATS: JetStream stores every event, and tells apart by ``Nats-Msg-Id`` what it was given twice within two minutes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from qw.brokers import PATIENCE, Refused
from qw.brokers.batch import Batch
from qw.brokers.trouble import unavailable
from qw.core.errors import Unavailable
from qw.core.event import TYPES, Format, Message, nest_patterns

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
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
        self._replies = ""  # what answers are sent to, before the number of their message
        self._sent = 0
        self._unanswered: dict[int, tuple[Batch, UUID]] = {}

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
                await self._declare(self._client.jetstream(timeout=PATIENCE))
                self._replies = self._client.new_inbox()
                await self._client.subscribe(f"{self._replies}.*", cb=self._answered)

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self.open()
        assert self._client is not None
        batch = Batch(len(messages), asyncio.get_running_loop().create_future())
        with self._trouble():
            async with asyncio.timeout(PATIENCE):
                for message in messages:
                    await self._send(self._client, message, batch)
            await self._wait(batch)
        self._unanswered.clear()
        if len(batch.confirmed) < len(messages):
            await self.close()
        if not batch.confirmed:
            self._give_up(batch)
        return batch.confirmed

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await drop(client)

    async def _send(self, client: Client, message: Message, batch: Batch) -> None:
        self._sent += 1
        self._unanswered[self._sent] = batch, message.id
        headers = {"Nats-Msg-Id": str(message.id), "content-type": message.content_type}
        subject = f"{self._prefix}{message.topic}"
        await client.publish(subject, message.body, reply=f"{self._replies}.{self._sent}", headers=headers)

    async def _answered(self, answer: Msg) -> None:
        """JetStream stored a message, or says why not; where no stream listens, the server says so by a header."""
        batch, id = self._unanswered.pop(int(answer.subject.rpartition(".")[2]), (None, None))
        if batch is None or id is None:
            return
        said = orjson.loads(answer.data) if answer.data else {"error": {"description": "no stream takes this subject"}}
        if error := said.get("error"):
            batch.refuse(Refused(f"nats: {error.get('description', error)}"))
        else:
            batch.confirm(id)

    async def _wait(self, batch: Batch) -> None:
        """Until all is answered, the connection is lost (which nobody is told of) or the patience is over."""
        lost = asyncio.ensure_future(self._lost.wait())
        either: set[asyncio.Future[Any]] = {lost, batch.settled}
        try:
            await asyncio.wait(either, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()

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

    def _give_up(self, batch: Batch) -> None:
        if batch.error is not None:
            raise batch.error
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
