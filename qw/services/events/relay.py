"""Publishes events: outbox → event log, webhooks, broker. An event that all targets have stored leaves the outbox.

No lock is held and no transaction is open while waiting for a broker. A broker that is down or unresponsive costs rows
in the outbox and is shown in the state; it never affects a task. An event that cannot be published (its row is invalid,
a target rejects it) is blocked: it is retried later, and only later events of the same task wait for it.
`event_order` keeps the events of a task in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from qw.brokers import Broker, Refused
from qw.brokers.trouble import reason_of
from qw.core.backoff import backoff_seconds
from qw.core.errors import QwError, Unavailable
from qw.core.event import Event, EventFormat, Message, message
from qw.services.events.event_order import BATCH, FIRST_PAUSE, LONGEST_PAUSE, ReadCursor, Sorted, rounds
from qw.services.events.partitions import UPKEEP_SECONDS, OutboxPartitions
from qw.services.execution.prefetch import Prefetch
from qw.store import events
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.events import Reading, Waiting

log = logging.getLogger(__name__)

BUSY = 100  # tasks ended in 200 ms; from then on the relay yields the loop to a worker that is behind
BUSY_RATE = 1000  # events per second in that case: a thirtieth of the loop
LATE_SECONDS = 0.3  # older events are published anyway, with at most half of the loop's time
NOTHING_SECONDS = 0.1  # pause after an empty pass while the worker is behind: every batch of outcomes sets the bell
GATHER_SECONDS = 0.03  # pause between passes unless a full batch waits: a pass costs as much as fifty events
CHECK_SECONDS = 0.3  # polling interval of the outbox without notifications: other processes write to it too
ALERT_SECONDS = 15.0  # after the last activity, the outbox is polled this long; then the poller takes over
REST_SECONDS = 120.0  # interval of passes while the poller watches the outbox
RENEW_SECONDS = 3600.0
BLOCKED_CHECK_SECONDS = 0.25  # polling interval for blocked events that are due, if there are any
FIRST_BLOCKED, LONGEST_BLOCKED = timedelta(seconds=0.25), timedelta(seconds=60)  # between retries of a blocked event
REFUSED_PAUSE = 0.5  # maximum pause in seconds after a responsive broker rejected everything: it may accept others
REFUSED_MOST = 3  # passes rejected completely before their events are blocked
SINGLES_MOST = 8  # events rejected one by one before the broker itself is considered faulty


_NOTHING = Reading(waiting=[], broken={})

_TROUBLES: Mapping[str | None, str] = {
    "login": "broker rejected the login; events are waiting",
    "setup": "broker rejected the setup; events are waiting",
}


class Webhooks(Protocol):
    @property
    def types(self) -> frozenset[str]: ...

    async def refresh(self, conn: Connection) -> bool:
        """Reload the webhooks if due. Return whether they changed."""
        ...

    async def deliver(self, new: Sequence[Event]) -> None:
        """Deliver these events to the webhooks that want them. Idempotent. Raise Unavailable."""
        ...


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The targets of events: ``types`` go to ``broker``, ``logged`` to ``log``; ``webhooks`` select their own.

    ``log`` stores CloudEvents regardless of the broker's ``format``. ``source`` is the source attribute of every event.
    """

    source: str
    broker: Broker | None = None
    format: EventFormat = EventFormat.CLOUDEVENTS
    types: frozenset[str] = frozenset()
    log: Broker | None = None
    logged: frozenset[str] = frozenset()
    webhooks: Webhooks | None = None
    log_on_demand: bool = False  # the log stores events only while readers request them

    @property
    def wanted(self) -> frozenset[str]:
        """The event types to be written to the outbox for these targets."""
        logged = frozenset() if self.log_on_demand else self.logged
        return self.types | logged | (self.webhooks.types if self.webhooks else frozenset())

    @property
    def name(self) -> str:
        return self.broker.name if self.broker else self.log.name if self.log else "webhooks"


@dataclass(frozen=True, kw_only=True)
class Handed:
    """The result of a pass: outbox ids that all targets have, blocked events with reasons, why it was aborted."""

    done: list[int]
    blocked: dict[int, str | None]
    trouble: Unavailable | None = None


class Unsure(Unavailable):
    """The broker is not to blame: this worker is silent, or lost the session that held its slots."""


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
        self._blocked = 0
        self._blocked_reason: str | None = None
        self._look_at_blocked = 0.0
        self._tried_blocked = False
        self._failures = 0
        self._refusals = 0
        self._not_before = 0.0
        self._reported: tuple[int, str, str | None] | None = None
        self._conn: Connection | None = None
        self._pace = Prefetch()
        self._worker_is_behind = False
        self._renewed_at: float | None = None
        self._alert_until = time.monotonic() + ALERT_SECONDS
        self._passed_at = float("-inf")
        self._others: Set[int] = frozenset()
        self._applied: int | None = None
        self.is_idle = False  # the last pass found nothing, and the bell has not been set since
        self.relayed = 0
        self.state = "up"
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        now = time.monotonic()
        return self._not_before - now if now < self._not_before else CHECK_SECONDS

    async def step(self) -> bool:
        started = time.monotonic()
        if started < self._not_before:
            return False
        if self._may_rest(started):
            await self._look_after_broker()
            return False
        self._passed_at = started
        async with self._link.use() as conn:
            if conn is not self._conn:  # the state names the session that holds the slots
                self._conn, self._reported = conn, None
            await self._renew(conn)
            if (hooks := self._targets.webhooks) and await hooks.refresh(conn):
                await events.also_want(conn, sorted(hooks.types))
            self._notice(await self._slots.have(conn))
            again = await self._due_blocked(conn) if self._had else []
            reading = await self._next(conn, again) if self._had else _NOTHING
            if reading.broken:
                await self._block(conn, dict(reading.broken), again)
                return True  # the events that waited behind them can be read now
            if self._progress.known and not reading and not again:
                self._progress.found_nothing(await events.writers(conn))
        if not reading and not again:
            await self._look_after_broker()
            if self._worker_is_behind:
                self._not_before = time.monotonic() + NOTHING_SECONDS
            return False
        self.is_idle = False
        self.wake()
        handed = await self._hand_over(reading.waiting)
        await self._settle(handed, again)
        if handed.trouble is not None:
            await self._back_off(handed.trouble)
            return False
        if not again:
            self._progress.went_through(reading, is_cut=len(reading) >= BATCH)
        await self._say_all_is_well()
        if pause := self._pause_after(reading, time.monotonic() - started):
            self._not_before = time.monotonic() + pause
        return not pause

    async def _settle(self, handed: Handed, again: Sequence[int]) -> None:
        """Delete finished events from the outbox and record blocked ones. *again*: events blocked before this pass."""
        self.relayed += len(handed.done)
        freed = [] if handed.trouble else sorted(set(again) - set(handed.blocked))
        if not handed.done and not handed.blocked and not freed:
            return
        async with self._link.use() as conn:
            if handed.done:
                await events.forget(conn, handed.done)
            if handed.blocked:
                await self._block(conn, handed.blocked, again)
            if freed:
                await events.unblock(conn, freed, self._had)
                await self._count_blocked(conn)
                self._look_at_blocked = 0.0

    def _pause_after(self, reading: Reading, took: float) -> float:
        """Return the seconds until the next pass, given the number of events of this one."""
        count = len(reading)
        if self._pace.ahead(time.monotonic()) >= BUSY and self._worker_is_behind:
            is_late = bool(reading.waiting) and reading.waiting[0].age > LATE_SECONDS
            return min(count / BUSY_RATE, took) if is_late else count / BUSY_RATE
        return 0.0 if count >= BATCH else GATHER_SECONDS

    def ended(self, count: int, *, is_behind: bool = False) -> None:
        """Note that tasks ended in this process, so there are events. *is_behind*: its worker has a backlog."""
        self._pace.completed(count)
        self._worker_is_behind = is_behind
        self.wake()
        self.bell.set()

    @property
    def cursor(self) -> int:
        """The outbox id up to which this relay has read everything, apart from the writers that `ReadCursor` knows."""
        return self._progress.cursor

    def wake(self) -> None:
        """Poll the outbox for a while."""
        self._alert_until = time.monotonic() + ALERT_SECONDS

    def hear(self, *, has_events: bool, others: Set[int], applied: int | None) -> None:
        """Take what a poll found: events after `cursor`, the other workers, and the last change of definitions."""
        if has_events or others != self._others or applied != self._applied:  # slots to share, or other webhooks
            rested = self._may_rest(time.monotonic())
            self._others, self._applied = set(others), applied
            self.wake()
            if rested:
                self.bell.set()

    def _may_rest(self, now: float) -> bool:
        """Whether nothing has happened for a while, no event is to be retried, and no transaction may add events."""
        is_quiet = now >= self._alert_until and not self._blocked and not self._progress.known
        return is_quiet and now < self._passed_at + REST_SECONDS

    def start_over(self) -> None:
        """After a reconnect, possibly to another database: rescan the outbox, write the state and event types again."""
        self._had, self._reported, self._renewed_at = (), None, None
        self.wake()
        self.bell.set()

    async def stop(self) -> None:
        """Disconnect from the broker and delete the relay's state."""
        if self._targets.broker:
            await self._targets.broker.close()
        with contextlib.suppress(QwError):  # if the database is unreachable, the worker is declared dead later
            async with self._link.use() as conn:
                await events.drop_state(conn, self._worker())

    async def _renew(self, conn: Connection) -> None:
        """Renew the request for events periodically; otherwise they would be dropped."""
        now = time.monotonic()
        if self._renewed_at is None or now - self._renewed_at >= RENEW_SECONDS:
            await events.still_want(conn, sorted(self._targets.wanted))
            self._renewed_at = now

    # -- reading

    def _notice(self, slots: tuple[int, ...]) -> None:
        """Reset the cursor when the slots change: another daemon may have left events anywhere in them."""
        if slots != self._had:
            log.info("relaying", extra={"slots": len(slots), "to": self._targets.name})
            self._had, self._progress, self._look_at_blocked = slots, ReadCursor(), 0.0

    async def _next(self, conn: Connection, again: Sequence[int]) -> Reading:
        """Return the events of this pass: those to retry (*again*; some may be deleted), or else the next ones."""
        if again:
            return await events.read_again(conn, again)
        self._progress.rescan_when_due(time.monotonic())
        progress = self._progress
        return await events.read(conn, self._had, cursor=progress.cursor, known=progress.known, limit=BATCH)

    # -- blocked events

    async def _due_blocked(self, conn: Connection) -> list[int]:
        """Return blocked events to retry now, by id; in every other pass at most, so that new events are not
        delayed.
        """
        now = time.monotonic()
        if now < self._look_at_blocked or self._tried_blocked:
            self._tried_blocked = False
            return []
        await self._count_blocked(conn)
        due = await events.due_blocked(conn, self._had, limit=BATCH)
        self._look_at_blocked = now + (BLOCKED_CHECK_SECONDS if self._blocked or due else UPKEEP_SECONDS)
        self._tried_blocked = bool(due)
        return due

    async def _block(self, conn: Connection, reasons: dict[int, str | None], again: Sequence[int]) -> None:
        await events.block(conn, reasons, first=FIRST_BLOCKED, longest=LONGEST_BLOCKED)
        new = {id: reason for id, reason in reasons.items() if id not in again}
        if first := next((reason for reason in new.values() if reason), None):
            log.warning("events cannot be published", extra={"events": len(new), "error": first})
        await self._count_blocked(conn)
        self._look_at_blocked = min(self._look_at_blocked, time.monotonic() + BLOCKED_CHECK_SECONDS)

    async def _count_blocked(self, conn: Connection) -> None:
        blocked = await events.blocked(conn, self._had)
        self._blocked, self._blocked_reason = blocked.count, blocked.reason

    # -- delivery

    async def _hand_over(self, waiting: Sequence[Waiting]) -> Handed:
        targets, outgoing = self._targets, Sorted(waiting)
        if targets.log:
            await self._hand_to(outgoing, targets.logged, self._log)
        if targets.webhooks:
            await self._hand_to(outgoing, targets.webhooks.types, self._deliver)
        missing, trouble = set[int](), None
        if targets.broker:
            missing, trouble = await self._publish(targets.broker, outgoing)
        return Handed(
            done=[w.id for w in outgoing.publishable if w.id not in missing], blocked=outgoing.blocked, trouble=trouble
        )

    async def _hand_to(
        self, outgoing: Sorted, types: frozenset[str], hand: Callable[[Sequence[Waiting]], Awaitable[None]]
    ) -> None:
        """Deliver the events of *types*; a rejected batch is bisected until the faulty events are isolated."""
        parts = [[w for w in outgoing.publishable if w.event.type in types]]
        while parts:
            part = [w for w in parts.pop() if w.id not in outgoing.blocked]
            if not part:
                continue
            try:
                await hand(part)
            except Unavailable:
                raise
            except Exception as error:
                if len(part) == 1:
                    outgoing.refuse({part[0].id: _reason(error)})
                else:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]

    async def _log(self, part: Sequence[Waiting]) -> None:
        assert self._targets.log is not None
        source = self._targets.source
        await self._targets.log.publish([message(w.event, EventFormat.CLOUDEVENTS, source=source) for w in part])

    async def _deliver(self, part: Sequence[Waiting]) -> None:
        assert self._targets.webhooks is not None
        await self._targets.webhooks.deliver([w.event for w in part])

    async def _publish(self, broker: Broker, outgoing: Sorted) -> tuple[set[int], Unavailable | None]:
        """Publish in rounds. Return the ids neither confirmed nor rejected by the broker, and the reason."""
        missing = {w.id for w in outgoing.publishable if w.event.type in self._targets.types}
        if not missing:
            return missing, None
        try:
            await broker.open()
            for batch in rounds([w for w in outgoing.publishable if w.id in missing]):
                await self._publish_round(broker, batch, outgoing, missing)
        except Refused as error:
            self._refusals += 1
            if self._refusals < REFUSED_MOST:
                return missing, error
            outgoing.refuse({w.id: str(error) for w in outgoing.publishable if w.id in missing})
        except Unavailable as error:
            return missing, error
        self._refusals = 0
        return missing & {w.id for w in outgoing.publishable}, None

    async def _publish_round(
        self, broker: Broker, batch: Sequence[Waiting], outgoing: Sorted, missing: set[int]
    ) -> None:
        """Publish one round. Events that the broker rejects, or that cannot be encoded, are blocked; a batch that was
        rejected completely before is bisected to find them. Raise Refused if the broker accepts none.
        """
        messages = {}
        for w in batch:
            if w.id not in outgoing.blocked and (made := self._made(broker, w, outgoing)):
                messages[w.id] = made
        parts, singles, taken = [list(messages)] if messages else [], 0, False
        while parts:
            part = parts.pop()
            try:
                confirmed = await self._send(broker, [messages[id] for id in part])
            except Refused as error:
                singles += len(part) == 1
                if not self._refusals or (not taken and (len(messages) == 1 or singles >= SINGLES_MOST)):
                    raise
                if len(part) == 1:
                    outgoing.refuse({part[0]: str(error)})
                else:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            taken = taken or bool(confirmed)
            missing -= {id for id in part if messages[id].id in confirmed}
            outgoing.refuse({id: f"{broker.name} did not confirm the event" for id in part if id in missing})

    def _made(self, broker: Broker, waiting: Waiting, outgoing: Sorted) -> Message | None:
        """Return the message for *waiting*. If it cannot be encoded or is too large, block it and return None."""
        targets = self._targets
        try:
            made = message(waiting.event, targets.format, source=targets.source, limit=broker.max_bytes)
            if broker.max_bytes is not None and len(made.body) > broker.max_bytes:
                raise ValueError(f"{len(made.body):,} bytes; {broker.name} accepts at most {broker.max_bytes:,}")
        except Exception as error:  # rows may have any content
            outgoing.refuse({waiting.id: _reason(error)})
            return None
        return made

    async def _send(self, broker: Broker, messages: Sequence[Message]) -> set[UUID]:
        if not self._slots.are_sure():
            raise Unsure("these slots may be another daemon's by now")
        return await broker.publish(messages)

    # -- state

    async def _look_after_broker(self) -> None:
        """Check the broker although there are no events, so that the state is current."""
        try:
            if self._targets.broker:
                await self._targets.broker.open()
        except Unavailable as error:
            await self._back_off(error)
        else:
            await self._say_all_is_well()
            self.is_idle = not self.bell.is_set()

    async def _say_all_is_well(self) -> None:
        if self._failures:
            log.info("broker connection restored", extra={"broker": self._targets.name, "failures": self._failures})
        self._failures = 0
        await self._report()

    async def _back_off(self, trouble: Unavailable) -> None:
        if isinstance(trouble, Unsure):
            self._not_before = time.monotonic() + FIRST_PAUSE
            log.debug("nothing published", extra={"error": str(trouble)})
            return
        self._failures += 1
        longest = REFUSED_PAUSE if isinstance(trouble, Refused) else LONGEST_PAUSE
        pause = backoff_seconds(self._failures, first=FIRST_PAUSE, longest=longest, chance=random.random())
        self._not_before = time.monotonic() + pause
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        message = _TROUBLES.get(reason_of(trouble), "broker unreachable; events are waiting")
        log.log(level, message, extra={"broker": self._targets.name, "error": str(trouble)})
        await self._report(trouble)

    async def _report(self, trouble: Unavailable | None = None) -> None:
        """Write a changed state to the database, for `qw status`."""
        error = str(trouble) if trouble else None
        reason = reason_of(trouble) if trouble else None
        if not trouble and self._blocked:
            error = f"{self._blocked} event{'s' * (self._blocked != 1)} cannot be published: {self._blocked_reason}"
        self.state = "down" if trouble else "held" if self._blocked else "up"
        state = (self._worker(), self.state, error)
        if state != self._reported:
            async with self._link.use() as conn:
                name = self._targets.name
                await events.set_state(conn, state[0], broker=name, state=self.state, error=error, reason=reason)
            self._reported = state


def _reason(error: Exception) -> str:
    """Return the first line of *error*, as stored in the database."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
