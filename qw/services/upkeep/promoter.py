"""Moves scheduled tasks to ready when they are due, by the database's clock; sleeps until the next due time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from qw.core.task import Lane
from qw.store import claims
from qw.store.connection import ReconnectingConnection

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 500
EARLIER_SECONDS = 0.02  # smaller differences between due times are clock noise
HEALTHY_SECONDS = 0.02
DEAREST_SECONDS = 0.2
RESCAN_SHARE = 50  # as in lanes.py: rows can appear before the cursor, so it is reset from time to time


class Promoter:
    """See the module. ``woken`` is called with the lanes that got tasks. A query that takes less than
    ``healthy_seconds`` needs no cursor."""

    name = "promoter"

    def __init__(
        self,
        link: ReconnectingConnection,
        woken: Callable[[Iterable[Lane]], None],
        *,
        healthy_seconds: float = HEALTHY_SECONDS,
    ) -> None:
        self._link = link
        self._woken = woken
        self._healthy_seconds = healthy_seconds
        self._next: float | None = None
        self._waits_until = 0.0
        self._scanned_at = 0.0
        self._cost = 0.0
        self.cursor = LONG_AGO  # no task is known to wait before it
        self.bell = asyncio.Event()

    def expect(self, seconds: float | None) -> None:
        """Set the next due time, in *seconds* (None: none). Sets the bell if the current wait would end later."""
        self._next = None if seconds is None else time.monotonic() + seconds
        if self._next is not None and self._next < self._waits_until - EARLIER_SECONDS:
            self.bell.set()

    def max_wait(self) -> float:
        now = time.monotonic()
        until = now + 3600.0 if self._next is None else self._next
        if self.cursor != LONG_AGO:  # no other service sees rows that appear before the cursor
            until = min(until, self._scanned_at + self._pause)
        self._waits_until = max(now, until)
        return self._waits_until - now

    @property
    def _pause(self) -> float:
        return max(1.0, RESCAN_SHARE * min(self._cost, DEAREST_SECONDS))

    async def step(self) -> bool:
        started = time.monotonic()
        if self._cost < self._healthy_seconds or started - self._scanned_at >= self._pause:
            self.cursor = LONG_AGO
        from_the_start = self.cursor == LONG_AGO
        self._next = None  # before the query, so that notifications during it count
        async with self._link.use() as conn:
            moved = await claims.promote(conn, cursor=self.cursor, limit=BATCH)
        if from_the_start:
            self._scanned_at, self._cost = started, time.monotonic() - started
        if moved:
            self.cursor = max(run_at for _, run_at in moved)
            self._woken({lane for lane, _ in moved})
        is_full = len(moved) == BATCH
        if not is_full and self._cost < self._healthy_seconds:
            self.cursor = LONG_AGO  # a query from the start is cheap, and polls start from the cursor too
        return is_full
