"""Assigns the sixteen slots of the outbox to daemons: each slot to one daemon, each daemon its fair share.

A slot is owned through a session advisory lock, which the server releases when the daemon's session ends; behind a
pooler, where sessions are shared, through a row of `qw.relay_slot` until its worker is declared dead.

Active relays also take the slots of a *silent* worker, one that is frozen or disconnected from the database: its beat
count has not risen for two intervals. That is sooner than it is declared dead, because a wrong decision costs only a
relay's connection, and no task. A silent relay does not publish either (`are_sure`). When it continues, it reconnects
or checks its leases first, so that at most the events that it was publishing are published twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qw.core.liveness import Judge, Observation
from qw.services.liveness import lease as clock
from qw.store import events
from qw.store.connection import Connection

log = logging.getLogger(__name__)

UPKEEP_SECONDS = 10.0  # interval at which the shares are rebalanced
CHECK_SECONDS = 0.25  # interval at which an active relay looks for slots without an owner
GAP_SECONDS = 1.0  # after a longer pause of a relay, another may hold its leases
SILENT_BEATS = 2


class OutboxPartitions(Protocol):
    async def have(self, conn: Connection) -> tuple[int, ...]:
        """Return the slots owned now. The relay calls this before each pass, with the connection it reads from."""
        ...

    def are_sure(self) -> bool:
        """Whether the slots returned by `have` are still owned; checked just before publishing."""
        ...


@dataclass(frozen=True, kw_only=True)
class RelayWorker:
    """The worker of a relay: its current *id*, and the *age* of its last confirmed beat in seconds.

    ``silence``: the seconds without a beat after which a worker is silent, the same for all.
    """

    id: Callable[[], int]
    age: Callable[[], float]
    silence: float

    @property
    def is_silent(self) -> bool:
        return self.age() >= self.silence


class Upkeep:
    """When to check the slots, and when to rebalance them: at the start, every UPKEEP_SECONDS, and soon after a slot
    has lost its owner or its owner has become silent.
    """

    def __init__(self, worker: RelayWorker) -> None:
        self._worker = worker
        self._judge = Judge(worker.silence, by_locks=False)
        self._shared_at = self._checked_at = float("-inf")

    def is_due(self) -> bool:
        return clock.now() - self._checked_at >= CHECK_SECONDS

    def silent(self, slots: events.SlotObservation) -> dict[int, int]:
        """Return the beat counts of silent workers by id; none while this worker is silent: the cause may be here."""
        self._checked_at = now = clock.now()
        beats = {id: count for id, count in slots.beats.items() if id != self._worker.id()}
        self._judge.watch(now, beats)
        if self._worker.is_silent:
            return {}
        others = [Observation(id=id, beats=count, locks=False, locked=False) for id, count in beats.items()]
        return {id: beats[id] for id in self._judge.judge(now, others)}

    def shares(self, *, has_free: bool) -> bool:
        """Whether to rebalance now; True also records the time."""
        now = clock.now()
        if not has_free and now - self._shared_at < UPKEEP_SECONDS:
            return False
        self._shared_at = now
        return True

    def check_again(self) -> None:
        self._checked_at = float("-inf")


class LockedSlots:
    """Slots owned by session lock. They are lost with the connection and acquired again on the next."""

    def __init__(self, worker: RelayWorker) -> None:
        self._worker = worker
        self._conn: Connection | None = None
        self._mine: list[int] = []
        self._upkeep = Upkeep(worker)

    async def have(self, conn: Connection) -> tuple[int, ...]:
        if conn is not self._conn:
            self._mine = []
            await events.join_relays(conn)
            self._conn, self._upkeep = conn, Upkeep(self._worker)
        if self._upkeep.is_due():
            slots = await events.observe_locks(conn)
            if silent := self._upkeep.silent(slots):
                await self._end(conn, silent)
            if self._upkeep.shares(has_free=slots.has_free):
                await self._take_share(conn)
        return tuple(self._mine)

    def are_sure(self) -> bool:
        return self._conn is not None and not self._conn.closed and not self._worker.is_silent

    async def _end(self, conn: Connection, silent: dict[int, int]) -> None:
        if ended := await events.end_silent_relays(conn, silent):
            log.warning("closed relays of silent workers", extra={"workers": ended})
            self._upkeep.check_again()

    async def _take_share(self, conn: Connection) -> None:
        if ended := await events.end_dead_relays(conn):
            log.warning("closed relays of dead workers", extra={"relays": ended})
            self._upkeep.check_again()
        share = _share(await events.relays(conn))
        while len(self._mine) > share:
            await events.leave_slot(conn, self._mine.pop())
        for slot in events.SLOTS:
            if len(self._mine) < share and slot not in self._mine and await events.try_slot(conn, slot):
                self._mine.append(slot)


class LeasedSlots:
    """Slots leased to a worker until it is declared dead or silent."""

    def __init__(self, worker: RelayWorker) -> None:
        self._worker = worker
        self._owner = 0
        self._mine: tuple[int, ...] = ()
        self._upkeep = Upkeep(worker)
        self._had_at = float("-inf")

    async def have(self, conn: Connection) -> tuple[int, ...]:
        worker, now = self._worker.id(), clock.now()
        if worker != self._owner or now - self._had_at > GAP_SECONDS:
            self._upkeep = Upkeep(self._worker)
        self._had_at = now
        if self._upkeep.is_due():
            slots = await events.observe_leases(conn)
            silent = self._upkeep.silent(slots)
            if self._upkeep.shares(has_free=slots.has_free or bool(silent)):
                await self._take_share(conn, worker, silent)
        return self._mine

    def are_sure(self) -> bool:
        return self._owner == self._worker.id() and not self._worker.is_silent

    async def _take_share(self, conn: Connection, worker: int, silent: dict[int, int]) -> None:
        share = _share(await events.lessees(conn, worker, without=silent) + 1)
        self._mine = tuple(await events.lease_slots(conn, worker, share=share, silent=silent))
        self._owner = worker


def _share(relays: int) -> int:
    return -(-len(events.SLOTS) // max(relays, 1))
