"""Hands events over: outbox → event log, webhooks, broker. What all of them have for good leaves the outbox.

Nothing is locked and no transaction is open while a broker is waited for. A broker that is down or mute costs rows and
a state that everybody can see, never a task. What a broker refuses is held: with it wait the later events of the same
task, and nothing else.
How a task's events stay in order is in `order.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from qw.brokers import Broker
from qw.core.errors import QwError, Unavailable
from qw.core.event import Event, Format, Message, message
from qw.services.event_order import BATCH, FIRST_PAUSE, LONGEST_PAUSE, Handed, HeldEvents, ReadCursor, rounds
from qw.services.partitions import UPKEEP_SECONDS, OutboxPartitions
from qw.services.prefetch import Prefetch
from qw.store import events
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.events import Waiting

log = logging.getLogger(__name__)

BUSY = 100  # tasks that end in 200 ms; from then on the relay leaves the loop to a worker that is behind
BUSY_RATE = 1000  # events per second meanwhile: a thirtieth of the loop
NOTHING_SECONDS = 0.1  # after a pass that found nothing, while the worker is behind: every batch of outcomes rings
GATHER_SECONDS = 0.03  # between two passes, unless there is a whole batch: each costs as much as fifty events
RENEW_SECONDS = 3600.0
HELD_MOST = 10_000  # refused events; with more, nothing new is read until some are taken


class Webhooks(Protocol):
    @property
    def types(self) -> frozenset[str]: ...

    async def refresh(self, conn: Connection) -> bool:
        """Look what webhooks there are now, if it is time to. Returns whether others than before."""
        ...

    async def deliver(self, told: Sequence[Event]) -> None:
        """See to it that those who asked for these events get them. Safe to repeat. Raises Unavailable."""
        ...


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where events go: those of ``types`` to ``broker``, of ``logged`` to ``log``, of its own choice to ``webhooks``.

    ``log`` takes CloudEvents whatever ``format`` the broker gets. ``source`` is who speaks, in every event.
    """

    source: str
    broker: Broker | None = None
    format: Format = Format.CLOUDEVENTS
    types: frozenset[str] = frozenset()
    log: Broker | None = None
    logged: frozenset[str] = frozenset()
    webhooks: Webhooks | None = None
    log_on_demand: bool = False  # the log takes what readers had written; it asks for nothing itself

    @property
    def wanted(self) -> frozenset[str]:
        """The event types that are to be written for these targets."""
        logged = frozenset() if self.log_on_demand else self.logged
        return self.types | logged | (self.webhooks.types if self.webhooks else frozenset())

    @property
    def name(self) -> str:
        return self.broker.name if self.broker else self.log.name if self.log else "webhooks"


class Relay:
    """See the module. ``relayed`` counts events; ``state`` is up, down or held."""

    name = "relay"

    def __init__(
        self, link: ReconnectingConnection, *, worker: Callable[[], int], slots: OutboxPartitions, targets: Targets
    ) -> None:
        self._link = link
        self._worker = worker
        self._slots = slots
        self._targets = targets
        self._had: tuple[int, ...] = ()
        self._progress = ReadCursor()
        self._held = HeldEvents()
        self._failures = 0
        self._not_before = 0.0
        self._told: tuple[int, str, str | None] | None = None
        self._conn: Connection | None = None
        self._pace = Prefetch()
        self._worker_is_behind = False
        self._renewed_at: float | None = None
        self.is_idle = False  # the last pass found nothing, and nobody rang since
        self.relayed = 0
        self.state = "up"
        self.bell = asyncio.Event()

    @property
    def cursor(self) -> int:
        """Nothing that is still to be relayed for the first time stands before it: who looks for news begins there."""
        return self._progress.cursor

    def patience(self) -> float:
        now = time.monotonic()
        if now < self._not_before:
            return self._not_before - now
        return min(max(self._held.retry_at - now, 0.0) if self._held else UPKEEP_SECONDS, UPKEEP_SECONDS)

    async def step(self) -> bool:
        if time.monotonic() < self._not_before:
            return False
        async with self._link.use() as conn:
            if conn is not self._conn:  # the state names the session that holds the slots
                self._conn, self._told = conn, None
            await self._renew(conn)
            if (hooks := self._targets.webhooks) and await hooks.refresh(conn):
                await events.also_want(conn, sorted(hooks.types))
            self._notice(await self._slots.have(conn))
            retried, waiting = await self._next(conn) if self._had else ([], [])
        if not waiting and not retried:
            await self._look_after_broker()
            if self._worker_is_behind:
                self._not_before = time.monotonic() + NOTHING_SECONDS
            return False
        self.is_idle = False
        handed = await self._hand_over(waiting)
        if handed.done:
            async with self._link.use() as conn:
                await events.forget(conn, handed.done)
        self.relayed += len(handed.done)
        self._held.settle(retried, handed)
        if handed.trouble is not None:
            await self._back_off(handed.trouble)
            return False
        if not retried:
            self._progress.went_through(waiting)
        await self._say_all_is_well()
        if pause := self._pause_after(len(waiting)):
            self._not_before = time.monotonic() + pause
        return not pause

    def _pause_after(self, count: int) -> float:
        """Seconds until the next pass, after one of *count* events."""
        if self._pace.ahead(time.monotonic()) >= BUSY and self._worker_is_behind:
            return count / BUSY_RATE
        return 0.0 if count >= BATCH else GATHER_SECONDS

    def ended(self, count: int, *, is_behind: bool = False) -> None:
        """So many tasks ended in this process, so there are events. *is_behind*: its worker has more than it can do."""
        self._pace.completed(count)
        self._worker_is_behind = is_behind
        self.bell.set()

    async def stop(self) -> None:
        """Let the broker go, and say no more how it fares."""
        if self._targets.broker:
            await self._targets.broker.close()
        with contextlib.suppress(QwError):  # without the database, it will see that this worker is dead
            async with self._link.use() as conn:
                await events.drop_state(conn, self._worker())

    async def _renew(self, conn: Connection) -> None:
        """Say now and then that somebody comes for the events, or they would be given up."""
        now = time.monotonic()
        if self._renewed_at is None or now - self._renewed_at >= RENEW_SECONDS:
            await events.still_want(conn, sorted(self._targets.wanted))
            self._renewed_at = now

    # -- reading

    def _notice(self, slots: tuple[int, ...]) -> None:
        """With other slots everything begins anew: somebody else may have left events anywhere in them."""
        if slots != self._had:
            log.info("relaying", extra={"slots": len(slots), "to": self._targets.name})
            self._had, self._progress, self._held = slots, ReadCursor(), HeldEvents()

    async def _next(self, conn: Connection) -> tuple[list[int], list[Waiting]]:
        """What to hand over now, after the ids of those that are tried again; of these some may be gone."""
        if ids := self._held.due(time.monotonic()):
            return ids, await events.read_held(conn, ids)
        if len(self._held) >= HELD_MOST:
            return [], []
        self._progress.rescan_when_due(time.monotonic())
        return [], await events.read(conn, self._had, cursor=self.cursor, held=self._held.ids, limit=BATCH)

    # -- handing over

    async def _hand_over(self, waiting: Sequence[Waiting]) -> Handed:
        targets = self._targets
        if targets.log and (logged := [self._logged(w.event) for w in waiting if w.event.type in targets.logged]):
            await targets.log.publish(logged)
        if targets.webhooks:
            await targets.webhooks.deliver([w.event for w in waiting])
        chosen = [w for w in waiting if w.event.type in targets.types]
        if targets.broker is None or not chosen:
            return Handed(done=[w.id for w in waiting], refused=[])
        return await self._publish(targets.broker, waiting, chosen)

    def _logged(self, event: Event) -> Message:
        return message(event, Format.CLOUDEVENTS, source=self._targets.source)

    async def _publish(self, broker: Broker, waiting: Sequence[Waiting], chosen: Sequence[Waiting]) -> Handed:
        """Publish *chosen*, in rounds: what comes after a refused event of the same key is refused with it."""
        missing = {w.id for w in chosen}
        stuck = self._held.keys_before(chosen)
        refused: list[Waiting] = []
        trouble = None
        try:
            await broker.open()
            for batch in rounds(chosen):
                sendable = [w for w in batch if w.event.key not in stuck]
                confirmed = await self._send(broker, sendable) if sendable else set()
                missing -= {w.id for w in sendable if w.event.id in confirmed}
                failed = [w for w in batch if w.id in missing]
                refused += failed
                stuck |= {w.event.key for w in failed}
        except Unavailable as error:
            trouble = str(error)
        return Handed(done=[w.id for w in waiting if w.id not in missing], refused=refused, trouble=trouble)

    async def _send(self, broker: Broker, batch: Sequence[Waiting]) -> set[UUID]:
        if not self._slots.are_sure():
            raise Unavailable("these slots may be another daemon's by now")
        targets = self._targets
        return await broker.publish(
            [message(w.event, targets.format, source=targets.source, limit=broker.max_bytes) for w in batch]
        )

    # -- how it fares

    async def _look_after_broker(self) -> None:
        """Nothing is to be told. Whoever looks is to see all the same whether it could be."""
        try:
            if self._targets.broker:
                await self._targets.broker.open()
        except Unavailable as error:
            await self._back_off(str(error))
        else:
            await self._say_all_is_well()
            self.is_idle = not self.bell.is_set()

    async def _say_all_is_well(self) -> None:
        if self._failures:
            log.info("broker is back", extra={"broker": self._targets.name, "failures": self._failures})
        self._failures = 0
        await self._tell()

    async def _back_off(self, trouble: str) -> None:
        self._failures += 1
        pause = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE)
        self._not_before = time.monotonic() + pause * (0.5 + random.random() / 2)
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        log.log(level, "broker is away; events wait", extra={"broker": self._targets.name, "error": trouble})
        await self._tell(trouble)

    async def _tell(self, trouble: str | None = None) -> None:
        """Write the state where `qw status` finds it, when it is another one."""
        error = trouble or (f"the broker refuses {len(self._held)} events" if self._held else None)
        self.state = "down" if trouble else "held" if self._held else "up"
        state = (self._worker(), self.state, error)
        if state != self._told:
            async with self._link.use() as conn:
                await events.set_state(conn, state[0], broker=self._targets.name, state=self.state, error=error)
            self._told = state
