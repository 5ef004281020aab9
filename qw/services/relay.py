"""Hands events over: outbox → event log, webhooks, broker. What all of them have for good leaves the outbox.

Nothing is locked and no transaction is open while a broker is waited for. A broker that is down or mute costs rows and
a state that everybody can see, never a task. What a broker refuses is held: with it wait the later events of the same
task, and nothing else.

**Order.** A task's events are published in the order of their ids, each only when the broker has the one before. Ids are
given before they are committed, so a lower one may appear after a higher one was read. The cursor, which spares the
reader the dead rows behind it, therefore stops where a transaction that was open at an earlier reading may still add a
row: ids up to the highest one read are settled once every transaction that had begun by then is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from qw.brokers import Broker
from qw.core.errors import Unavailable
from qw.core.event import Event, Format, Message, message
from qw.services.slots import Slots
from qw.store import events
from qw.store.connection import Link
from qw.store.events import Waiting

log = logging.getLogger(__name__)

BATCH = 1024  # events per pass
HELD_MOST = 10_000  # refused events; with more than this the broker counts as down
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between tries of a broker in trouble
RESCAN_SECONDS = 60.0  # whatever the cursor believes, everything is looked at this often
NOWHERE = 2**63 - 1  # a cursor behind which nothing ever is


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where events go. ``broker`` takes those of ``types``; ``log`` and ``webhooks`` choose for themselves.

    ``log`` takes CloudEvents whatever ``format`` the broker gets. ``source`` is who speaks, in every event.
    """

    source: str
    broker: Broker | None = None
    format: Format = Format.CLOUDEVENTS
    types: frozenset[str] = frozenset()
    log: Broker | None = None
    webhooks: Callable[[Sequence[Event]], Awaitable[None]] | None = None

    @property
    def name(self) -> str:
        return self.broker.name if self.broker else "log" if self.log else "webhooks"


class Relay:
    """See the module. ``relayed`` counts, ``state`` is up, down or held; both for metrics."""

    name = "relay"

    def __init__(self, link: Link, *, worker: Callable[[], int], slots: Slots, targets: Targets) -> None:
        self._link = link
        self._worker = worker
        self._slots = slots
        self._targets = targets
        self._had: tuple[int, ...] = ()
        self._progress = Progress()
        self._held: dict[int, UUID] = {}  # refused events, and what waits for them, by key
        self._again: deque[int] = deque()  # of those, what is still to be tried in this round
        self._retry_at = 0.0
        self._closed_until = 0.0
        self._failures = 0
        self._told: tuple[int, str, str | None] | None = None
        self.relayed = 0
        self.state = "up"
        self.bell = asyncio.Event()

    @property
    def cursor(self) -> int:
        """Nothing that is still to be relayed stands before it; whoever looks for news may begin there."""
        return self._progress.cursor

    def patience(self) -> float:
        waits = [self._closed_until, self._retry_at] if self._held else [self._closed_until]
        due = [at - time.monotonic() for at in waits if at]
        return max(0.0, min([*due, 5.0]))

    async def step(self) -> bool:
        if time.monotonic() < self._closed_until:
            return False
        async with self._link.use() as conn:
            self._notice(await self._slots.have(conn))
            if not self._had:
                return False
            waiting = await self._next(conn)
        if not waiting:
            await self._tell("held" if self._held else "up", None)
            return False
        try:
            done = await self._hand_over(waiting)
        except BrokerTrouble as trouble:
            await self._back_off(str(trouble))
            return False
        async with self._link.use() as conn:
            if done:
                await events.forget(conn, done)
        self.relayed += len(done)
        self._failures = 0
        await self._tell("held" if self._held else "up", None)
        return True

    async def stop(self) -> None:
        """Let the broker go, and say no more how it fares."""
        if self._targets.broker:
            await self._targets.broker.close()
        async with self._link.use() as conn:
            await events.drop_state(conn, self._worker())

    # -- reading

    def _notice(self, slots: tuple[int, ...]) -> None:
        """With other slots everything begins anew: somebody else may have left events anywhere in them."""
        if slots != self._had:
            log.info("relaying", extra={"slots": len(slots), "to": self._targets.name})
            self._had = slots
            self._progress = Progress()
            self._held.clear()
            self._again.clear()

    async def _next(self, conn: events.Connection) -> list[Waiting]:
        if self._held and not self._again and time.monotonic() >= self._retry_at:
            self._again.extend(sorted(self._held))
        if self._again:
            ids = [self._again.popleft() for _ in range(min(BATCH, len(self._again)))]
            waiting = await events.read_held(conn, ids)
            for id in ids:
                del self._held[id]
            return waiting
        if len(self._held) >= HELD_MOST:
            return []
        limit = max(BATCH // len(self._had), 1)
        waiting = await events.read(conn, self._had, cursor=self.cursor, held=list(self._held), limit=limit)
        self._progress.read(waiting, time.monotonic())
        return waiting

    # -- handing over

    async def _hand_over(self, waiting: Sequence[Waiting]) -> list[int]:
        """Give the events to every target. Returns the ids (of the outbox) of those that all of them have."""
        told = [w.event for w in waiting]
        try:
            if self._targets.log:
                await self._targets.log.publish([self._as_logged(event) for event in told])
            if self._targets.webhooks:
                await self._targets.webhooks(told)
            unsent = await self._publish(waiting)
        except BaseException:
            self._hold(w for w in waiting if w.id <= self._progress.cursor and w.horizon == 0)
            raise
        self._hold(w for w in waiting if w.id in unsent)
        return [w.id for w in waiting if w.id not in unsent]

    def _as_logged(self, event: Event) -> Message:
        return message(event, Format.CLOUDEVENTS, source=self._targets.source)

    async def _publish(self, waiting: Sequence[Waiting]) -> set[int]:
        """Publish what the broker is to have. Returns the ids of what it does not have."""
        broker = self._targets.broker
        chosen = [w for w in waiting if w.event.type in self._targets.types]
        if broker is None or not chosen:
            return set()
        unsent: set[int] = set()
        stuck = set(self._held.values())
        sent_any = False
        try:
            await broker.open()
            for batch in rounds(chosen):
                unsent |= {w.id for w in batch if w.event.key in stuck}
                messages = {w.id: self._message(w.event, broker) for w in batch if w.event.key not in stuck}
                if not messages:
                    continue
                if not self._slots.are_sure():
                    raise Unavailable("the slots may be another's by now")
                confirmed = await broker.publish(list(messages.values()))
                sent_any = True
                refused = [w for w in batch if w.id in messages and messages[w.id].id not in confirmed]
                unsent |= {w.id for w in refused}
                stuck |= {w.event.key for w in refused}
        except Unavailable as error:
            if not sent_any:
                raise BrokerTrouble(str(error)) from error
            ...
        return unsent

    def _message(self, event: Event, broker: Broker) -> Message:
        return message(event, self._targets.format, source=self._targets.source, limit=broker.max_bytes)
