"""Assigns the sixteen slots of the outbox to daemons: each slot to one daemon, each daemon its fair share.

A slot is owned through a session advisory lock, which the server releases when the daemon's session ends; behind a
pooler, where sessions are shared, through a row of `qw.relay_slot` until its worker is declared dead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from qw.store import events
from qw.store.connection import Connection

log = logging.getLogger(__name__)

UPKEEP_SECONDS = 10.0  # interval at which the shares are rebalanced
LOOK_SECONDS = 0.5  # interval at which a relay at work looks for slots without an owner, whose events wait


class OutboxPartitions(Protocol):
    async def have(self, conn: Connection) -> tuple[int, ...]:
        """The slots owned now. The relay calls this before each pass, with the connection it reads from."""
        ...

    def are_sure(self) -> bool:
        """Whether the slots returned by `have` are still owned; checked just before publishing."""
        ...


class Upkeep:
    """When the shares are due: at first, every UPKEEP_SECONDS, and soon after a slot has lost its owner."""

    def __init__(self) -> None:
        self._shared_at = self._looked_at = float("-inf")

    async def is_due(self, has_free_slots: Callable[[], Awaitable[bool]]) -> bool:
        now = time.monotonic()
        if now - self._shared_at < UPKEEP_SECONDS:
            if now - self._looked_at < LOOK_SECONDS:
                return False
            self._looked_at = now
            if not await has_free_slots():
                return False
        self._shared_at = self._looked_at = now
        return True


class LockedSlots:
    """Slots owned by session lock. They are lost with the connection and acquired again on the next."""

    def __init__(self) -> None:
        self._conn: Connection | None = None
        self._mine: list[int] = []
        self._upkeep = Upkeep()

    async def have(self, conn: Connection) -> tuple[int, ...]:
        if conn is not self._conn:
            self._mine = []
            await events.join_relays(conn)
            self._conn, self._upkeep = conn, Upkeep()
        if await self._upkeep.is_due(lambda: events.has_unlocked_slots(conn)):
            await self._take_share(conn)
        return tuple(self._mine)

    def are_sure(self) -> bool:
        return self._conn is not None and not self._conn.closed

    async def _take_share(self, conn: Connection) -> None:
        if ended := await events.end_dead_relays(conn):
            log.warning("closed relays of dead workers", extra={"relays": ended})
        share = _share(await events.relays(conn))
        while len(self._mine) > share:
            await events.leave_slot(conn, self._mine.pop())
        for slot in events.SLOTS:
            if len(self._mine) < share and slot not in self._mine and await events.try_slot(conn, slot):
                self._mine.append(slot)


class LeasedSlots:
    """Slots leased to a worker until it is declared dead. ``lives``: whether this worker's lease is still valid."""

    def __init__(self, worker: Callable[[], int], lives: Callable[[], bool]) -> None:
        self._worker = worker
        self._lives = lives
        self._owner = 0
        self._mine: tuple[int, ...] = ()
        self._upkeep = Upkeep()

    async def have(self, conn: Connection) -> tuple[int, ...]:
        worker = self._worker()
        if worker != self._owner:
            self._upkeep = Upkeep()
        if await self._upkeep.is_due(lambda: events.has_unleased_slots(conn)):
            share = _share(await events.lessees(conn, worker) + 1)
            self._mine = tuple(await events.lease_slots(conn, worker, share=share))
            self._owner = worker
        return self._mine

    def are_sure(self) -> bool:
        return self._owner == self._worker() and self._lives()


def _share(relays: int) -> int:
    return -(-len(events.SLOTS) // max(relays, 1))
