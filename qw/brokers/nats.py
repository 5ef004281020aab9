"""NATS: JetStream stores every event and detects duplicates within two minutes by ``Nats-Msg-Id``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from qw.brokers import TIMEOUT, LoginRefused, Refused, SetupRefused
from qw.brokers.batch import PublishBatch
from qw.brokers.trouble import unavailable
from qw.core.errors import Unavailable, Unreachable
from qw.core.event import TYPES, EventFormat, Message, nest_patterns

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

STREAM = "QW"
DUPLICATE_WINDOW = 120.0  # seconds; what is published again later is stored again
# Reasons for which a stream takes nothing, whatever the event.
_NO_WRITES = (
    "maximum messages exceeded",
    "maximum bytes exceeded",
    "insufficient",
    "resource limits",
    "sealed",
    "offline",
)
OVERHEAD = 1024  # bytes left for the subject and the headers of a message


class NatsBroker:
    """Subjects ``qw.task.completed.http_request`` in stream QW; for ``nest`` the bare pattern, in stream QW-NEST.

    Subscribers without JetStream, such as ``nest`` consumers, get the messages too, because a stream only listens.
    """

    name = "nats"

    def __init__(self, servers: str, *, format: EventFormat, stream: str = STREAM, prefix: str = "qw") -> None:
        self._servers = servers
        self._is_nest = format is EventFormat.NEST
        self._stream = f"{stream}-NEST" if self._is_nest else stream
        self._prefix = "" if self._is_nest else f"{prefix}."
        self._lost = asyncio.Event()
        self._client: Client | None = None
        self._replies = ""  # what answers are sent to, before the number of their message
        self._sent = 0
        self._unanswered: dict[int, tuple[PublishBatch, UUID]] = {}

    @property
    def max_bytes(self) -> int | None:
        return None if self._client is None else self._client.max_payload - OVERHEAD

    async def open(self) -> None:
        if self._client is not None and self._client.is_connected:
            return
        await self.close()
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
                self._lost = asyncio.Event()
                self._client = await connect(self._servers, self._lost)
                subjects = nest_patterns() if self._is_nest else [f"{self._prefix}{noun}.>" for noun in _nouns()]
                config = {"duplicate_window": DUPLICATE_WINDOW, "max_age": 7 * 24 * 3600.0}
                await ensure_stream(self._client.jetstream(timeout=TIMEOUT), self._stream, subjects, **config)
                self._replies = self._client.new_inbox()
                await self._client.subscribe(f"{self._replies}.*", cb=self._answered)

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self.open()
        assert self._client is not None
        batch = PublishBatch(len(messages), asyncio.get_running_loop().create_future())
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
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

    async def _send(self, client: Client, message: Message, batch: PublishBatch) -> None:
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
            reason = str(error.get("description", error))
            takes_none = any(words in reason for words in _NO_WRITES)
            batch.refuse((Unavailable if takes_none else Refused)(f"nats: {reason}"))
        else:
            batch.confirm(id)

    async def _wait(self, batch: PublishBatch) -> None:
        """Until all is answered, the connection is lost (which nats-py does not report) or the timeout is over."""
        lost = asyncio.ensure_future(self._lost.wait())
        either: set[asyncio.Future[Any]] = {lost, batch.settled}
        try:
            await asyncio.wait(either, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()

    def _give_up(self, batch: PublishBatch) -> None:
        if batch.error is not None:
            raise batch.error
        raise Unreachable("nats: the connection broke" if self._lost.is_set() else "nats did not acknowledge the event")

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        return trouble(self._servers)


def trouble(servers: str) -> contextlib.AbstractContextManager[None]:
    """A context that turns errors of nats-py into Unavailable."""
    from nats.errors import Error

    return unavailable("nats", servers, Error, kind_of=_kind)


def _kind(error: Exception) -> type[Unavailable]:
    from nats.errors import AuthorizationError, InvalidUserCredentialsError
    from nats.js.errors import APIError

    text = str(error).lower()
    if isinstance(error, AuthorizationError | InvalidUserCredentialsError) or "authorization violation" in text:
        return LoginRefused
    return SetupRefused if isinstance(error, APIError) or "permissions violation" in text else Unreachable


async def ensure_stream(jetstream: JetStreamContext, name: str, subjects: Sequence[str], **limits: float) -> list[str]:
    """Make sure that a stream stores each of *subjects*. Return the names of these streams.

    An existing stream of any name is used as it is if its subjects cover ours. Missing subjects are added to stream
    *name*; streams of others are not changed. Raise SetupRefused if another stream stores only a part of a subject,
    because then no stream can store all of it.
    """
    from nats.js.api import StreamConfig
    from nats.js.errors import NotFoundError

    try:
        info = await jetstream.stream_info(name)
    except NotFoundError:
        others = {subject: await _stream_of(jetstream, subject) for subject in subjects}
        missing = [subject for subject, other in others.items() if other is None]
        if missing:
            await jetstream.add_stream(StreamConfig(name=name, subjects=missing, **limits))  # type: ignore[arg-type]
        return sorted({other or name for other in others.values()})
    theirs = info.config.subjects or []
    missing = [subject for subject in subjects if not any(covers(own, subject) for own in theirs)]
    if missing:
        kept = [own for own in theirs if not any(covers(subject, own) for subject in missing)]
        info.config.subjects = [*kept, *missing]
        await jetstream.update_stream(info.config)
    return [name]


async def _stream_of(jetstream: JetStreamContext, subject: str) -> str | None:
    """The stream that stores all of *subject*; None if no stream stores any part of it."""
    from nats.js.errors import NotFoundError

    try:
        other = await jetstream.find_stream_name_by_subject(subject)
    except NotFoundError:
        return None
    theirs = (await jetstream.stream_info(other)).config.subjects or []
    if any(covers(own, subject) for own in theirs):
        return other
    raise SetupRefused(
        f"nats refuses the setup: stream {other} takes a part of {subject} only ({', '.join(theirs)});"
        f" let it take {subject}, or take that part away from it"
    )


def covers(wide: str, narrow: str) -> bool:
    """Whether every subject that *narrow* matches is also matched by *wide*."""
    ours, theirs = narrow.split("."), wide.split(".")
    for number, word in enumerate(theirs):
        if word == ">":
            return len(ours) > number
        if number == len(ours) or ours[number] == ">" or word not in ("*", ours[number]):
            return False
    return len(ours) == len(theirs)


async def connect(servers: str, lost: asyncio.Event) -> Client:
    """A connection that sets *lost* when it breaks and does not reconnect; the caller opens another one."""
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
        raise errors[-1] if errors else Unreachable("nats cannot be reached") from None
    except BaseException:
        await drop(client)
        raise
    return client


async def drop(client: Client) -> None:
    """Close the connection in any state."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(client.close(), 1.0)


def _nouns() -> list[str]:
    return sorted({type.partition(".")[0] for type in TYPES})
