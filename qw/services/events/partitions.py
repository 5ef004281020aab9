"""Assigns the sixteen slots of the outbox to daemons: each slot to one daemon, each daemon its fair share.

A slot is owned through a session advisory lock, which the server releases when the daemon's session ends; behind a
pooler, where sessions are shared, through a row of `qw.relay_slot` until its worker is declared dead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from qw.store import events
from qw.store.connection import Connection

log = logging.getLogger(__name__)

UPKEEP_SECONDS = 10.0  # interval at which the shares are rebalanced


class OutboxPartitions(Protocol):
    async def have(self, conn: Connection) -> tuple[int, ...]:
        """The slots owned now. The relay calls this before each pass, with the connection it reads from."""
        ...

    def are_sure(self) -> bool:
        """Whether the slots returned by `have` are still owned; checked just before publishing."""
        ...


class LockedSlots:
    """Slots owned by session lock. They are lost with the connection and acquired again on the next."""

    def __init__(self) -> None:
        self._conn: Connection | None = None
        self._mine: list[int] = []
        self._looked_at = 0.0

    async def have(self, conn: Connection) -> tuple[int, ...]:
        if conn is not self._conn:
            self._mine = []
            await events.join_relays(conn)
            self._conn, self._looked_at = conn, 0.0
        if not self._looked_at or time.monotonic() - self._looked_at >= UPKEEP_SECONDS:
            await self._take_share(conn)
            self._looked_at = time.monotonic()
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
        self._looked_at = 0.0

    async def have(self, conn: Connection) -> tuple[int, ...]:
        now, worker = time.monotonic(), self._worker()
        if worker != self._owner or now - self._looked_at >= UPKEEP_SECONDS:
            share = _share(await events.lessees(conn, worker) + 1)
            self._mine = tuple(await events.lease_slots(conn, worker, share=share))
            self._owner, self._looked_at = worker, now
        return self._mine

    def are_sure(self) -> bool:
        return self._owner == self._worker() and self._lives()


def _share(relays: int) -> int:
    return -(-len(events.SLOTS) // max(relays, 1))
