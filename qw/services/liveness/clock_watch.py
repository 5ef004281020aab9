"""Measures the skew between this process's clock and the database's, and limits the damage when the latter is set.

All decisions use the database's clock (see `qw.clock`), so skew is only reported: once in the log, and in the worker's
row for status and metrics. When the database's clock is set back, stored times that are now in the future are reset to
the present: the positions of schedules and the buckets of rates.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from qw.clock import Clock, clock
from qw.store import queues, schedules, workers
from qw.store.connection import Connection, ReconnectingConnection, measure_clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
RATES_EVERY = 30  # checks
LARGE = timedelta(seconds=5)
CHANGED = timedelta(milliseconds=500)  # smaller changes of the skew are not written to the worker's row
SET_SECONDS = 1.0  # smaller jumps are drift, not a clock that was set


class ClockWatch:
    """See the module."""

    name = "clock watch"

    def __init__(self, link: ReconnectingConnection, worker: Callable[[], int], *, of: Clock = clock) -> None:
        self._link = link
        self._worker = worker
        self._clock = of
        self._stepped = 0.0
        self._looks = 0
        self._is_large = False
        self._written = (0, timedelta(0))  # the worker, and the skew in its row
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return LOOK_SECONDS

    async def step(self) -> bool:
        async with self._link.use() as conn:
            await measure_clock(conn)
            moved = self._clock.stepped - self._stepped
            await self._go_on_from_now(conn, moved)
            self._stepped = self._clock.stepped
            await self._write_skew(conn, self._clock.skew)
        if abs(moved) >= SET_SECONDS:
            self._tell_of_step(moved)
        self._tell_of_skew(self._clock.skew)
        return False

    async def _write_skew(self, conn: Connection, skew: timedelta) -> None:
        worker, written = self._written
        if worker != self._worker() or abs(skew - written) > CHANGED:
            self._written = (self._worker(), skew)
            await workers.set_skew(conn, *self._written)

    async def _go_on_from_now(self, conn: Connection, moved: float) -> None:
        """Correct rates regularly too: a step forwards and back may happen between two checks."""
        lowered, clamped = await schedules.lower_marks(conn), 0
        if lowered or moved <= -SET_SECONDS or self._looks % RATES_EVERY == 0:  # it reads all buckets
            clamped = await queues.clamp_rates(conn)
        self._looks += 1
        if lowered or clamped:
            log.warning(
                "schedules and rates were ahead of the database's clock; continuing from the current time",
                extra={"schedules": lowered, "rates": clamped},
            )

    def _tell_of_step(self, seconds: float) -> None:
        text = "database clock was set forward: scheduled work is due earlier"
        if seconds < 0:
            text = "database clock was set back: scheduled work is due later"
        log.warning(text, extra={"seconds": round(abs(seconds), 1)})

    def _tell_of_skew(self, skew: timedelta) -> None:
        is_large = abs(skew) >= LARGE
        if is_large and not self._is_large:
            log.warning(
                "clock of this machine differs from the database clock, which is used",
                extra={"seconds_ahead": round(skew.total_seconds(), 1)},
            )
        self._is_large = is_large
