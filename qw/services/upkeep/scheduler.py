"""Fires schedules when they are due, by the database's clock; sleeps until the next due time.

No leader: each daemon locks due schedules, skipping locked ones. `qw.engine.fire` fires them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from qw.core.errors import QwError
from qw.core.task import Lane
from qw.engine.fire import fire_due
from qw.store import schedules
from qw.store.connection import ReconnectingConnection, blames_data

BATCH = 250  # schedules; 40 ms of computation if no two share an expression
HELD_SECONDS = 0.05  # polling interval for due schedules that another daemon has locked
EARLIER_SECONDS = 0.02  # smaller differences between due times are clock noise


class Scheduler:
    """See the module. ``woken`` is called with the lanes that got tasks."""

    name = "scheduler"

    def __init__(self, link: ReconnectingConnection, woken: Callable[[Iterable[Lane]], None]) -> None:
        self._link = link
        self._woken = woken
        self._next: float | None = None
        self._waits_until = 0.0
        self._was_in_vain = False
        self._doubtful = 0  # schedules left of a batch that the database rejected
        self.bell = asyncio.Event()

    def expect(self, seconds: float | None) -> None:
        """Set the next due time, in *seconds* (None: none). Sets the bell if the current wait would end later."""
        self._next = None if seconds is None else time.monotonic() + seconds
        if self._next is not None and self._next < self._waits_until - EARLIER_SECONDS:
            self.bell.set()

    def max_wait(self) -> float:
        now = time.monotonic()
        self._waits_until = now + 3600.0 if self._next is None else max(now, self._next)
        return self._waits_until - now

    async def step(self, *, clock: datetime | None = None) -> bool:
        """Fire one batch of due schedules. *clock* replaces the database's in tests."""
        limit = 1 if self._doubtful else BATCH
        try:
            async with self._link.use() as conn:
                served, lanes = await fire_due(conn, limit=limit, clock=clock, skip_refused=bool(self._doubtful))
                asked_at = time.monotonic()
                due = await schedules.due(conn, clock=clock)
        except QwError as error:
            if self._doubtful or not blames_data(error):
                raise
            self._doubtful = BATCH  # one by one, so that only the faulty schedule's tick is skipped
            return True
        self._doubtful = max(0, self._doubtful - 1) if served else 0
        self._next = None if due is None else asked_at + self._wait(due, in_vain=not served)
        if lanes:
            self._woken(lanes)
        return served == limit

    def _wait(self, due: float, *, in_vain: bool) -> float:
        """Return the seconds to wait: HELD_SECONDS if another daemon held the overdue schedules twice in a row."""
        was_in_vain, self._was_in_vain = self._was_in_vain, in_vain and due <= 0
        return HELD_SECONDS if was_in_vain and self._was_in_vain else due
