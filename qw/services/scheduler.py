"""Fires schedules when their time has come, by the database's clock; sleeps exactly until the next known time.

No leader: each daemon claims due schedules that nobody else has. See `qw.engine.fire` for what is done with them.
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

BATCH = 250  # schedules; 40 ms of decisions where no two share an expression
HELD_SECONDS = 0.05  # between two looks at schedules that are due and that somebody else has
EARLIER_SECONDS = 0.02  # two clocks never agree by less


class Scheduler:
    """See the module. ``woken`` is told which lanes got tasks."""

    name = "scheduler"

    def __init__(self, link: ReconnectingConnection, woken: Callable[[Iterable[Lane]], None]) -> None:
        self._link = link
        self._woken = woken
        self._next: float | None = None
        self._waits_until = 0.0
        self._was_in_vain = False
        self._doubtful = 0  # schedules left of a batch of which the database refused something
        self.bell = asyncio.Event()

    def expect(self, seconds: float | None) -> None:
        """The next schedule is due in *seconds*; None: there is none. Rings when that is before the wait ends."""
        self._next = None if seconds is None else time.monotonic() + seconds
        if self._next is not None and self._next < self._waits_until - EARLIER_SECONDS:
            self.bell.set()

    def max_wait(self) -> float:
        now = time.monotonic()
        self._waits_until = now + 3600.0 if self._next is None else max(now, self._next)
        return self._waits_until - now

    async def step(self, *, clock: datetime | None = None) -> bool:
        """Serve one batch of due schedules. *clock* stands in for the database's in tests."""
        limit = 1 if self._doubtful else BATCH
        try:
            async with self._link.use() as conn:
                served, lanes = await fire_due(conn, limit=limit, clock=clock, skip_refused=bool(self._doubtful))
                asked_at = time.monotonic()
                due = await schedules.due(conn, clock=clock)
        except QwError as error:
            if self._doubtful or not blames_data(error):
                raise
            self._doubtful = BATCH  # one by one, so that only the culprit's tick is skipped
            return True
        self._doubtful = max(0, self._doubtful - 1) if served else 0
        self._next = None if due is None else asked_at + self._wait(due, in_vain=not served)
        if lanes:
            self._woken(lanes)
        return served == limit

    def _wait(self, due: float, *, in_vain: bool) -> float:
        """In vain for what is overdue, twice in a row: somebody else has it. Once, the look was a hair too early."""
        was_in_vain, self._was_in_vain = self._was_in_vain, in_vain and due <= 0
        return HELD_SECONDS if was_in_vain and self._was_in_vain else due
