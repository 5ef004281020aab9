"""What tests of the relay have in common: a broker that remembers, relays that are closed, events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from qw.core.errors import Unavailable
from qw.core.event import LOUD, TYPES, Message
from qw.services.events.partitions import LeasedSlots, LockedSlots, RelayWorker
from qw.services.events.relay import Relay, Targets
from qw.store import events
from qw.store.connection import Connection, ReconnectingConnection
from tests.given import registered, value

QUIET = frozenset(TYPES) - LOUD
SILENCE = 60.0  # longer than a test: its workers do not beat


@dataclass
class MemoryBroker:
    """Has what it confirmed. ``refused``: keys it says no to. ``is_down``: it answers nothing."""

    name: str = "memory"
    max_bytes: int | None = None
    is_down: bool = False
    refused: set[UUID | None] = field(default_factory=set)
    got: list[Message] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    async def open(self) -> None:
        if self.is_down:
            raise Unavailable("memory is down")

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self.open()
        keys = [message.task_id for message in messages if message.task_id]
        assert len(keys) == len(set(keys))
        self.batches.append(len(messages))
        taken = [message for message in messages if message.task_id not in self.refused]
        self.got += taken
        return {message.id for message in taken}

    async def close(self) -> None:
        return None

    def types_of(self, task: UUID) -> list[str]:
        return [message.type for message in self.got if message.task_id == task]


class Relays:
    """Makes relays that are closed in the end. ``ages``: of the last beats of workers, 0 for others."""

    def __init__(self, url: str, conn: Connection) -> None:
        self._url = url
        self._conn = conn
        self._links: list[ReconnectingConnection] = []
        self.ages: dict[int, float] = {}

    async def make(self, broker: MemoryBroker, *, leased: bool = False, **targets: object) -> Relay:
        worker = await registered(self._conn)
        link = ReconnectingConnection(self._url, name="qw test relay")
        self._links.append(link)
        await events.want(self._conn, sorted(QUIET))
        owner = RelayWorker(id=lambda: worker, age=lambda: self.ages.get(worker, 0.0), silence=SILENCE)
        return Relay(
            link,
            worker=lambda: worker,
            slots=LeasedSlots(owner) if leased else LockedSlots(owner),
            targets=Targets(**{"source": "/qw/test", "broker": broker, "types": QUIET, **targets}),  # type: ignore[arg-type]
        )

    async def close(self) -> None:
        for link in self._links:
            await link.close()


async def drained(relay: Relay) -> None:
    """Step until nothing is left to do now."""
    while await relay.step():
        pass


async def outbox(conn: Connection) -> int:
    return int(await value(conn, "select count(*) from qw.outbox"))


async def happened(conn: Connection, *types: str, task: UUID | None = None) -> UUID:
    """Events of one task, in the outbox."""
    task = task or uuid4()
    for type in types:
        await conn.execute("insert into qw.outbox (type, task_id) values (%s, %s)", (type, task))
    return task
