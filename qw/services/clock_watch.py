"""Compares this process's clock with the database's, and sees to it that a database clock that was set harms little.

Everything that qw decides by time goes by the database's clock (see `qw.clock`), so skew is only told: in the log
once, with the worker's row for status and metrics. When the database's clock is set back, what was decided up to a
time that is now yet to come is lowered to the present: the marks of schedules and the buckets of rates.
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
RATES_EVERY = 30  # looks
LARGE = timedelta(seconds=5)
CHANGED = timedelta(milliseconds=500)  # a smaller difference to what the worker's row says is not written
SET_SECONDS = 1.0  # a clock that moved by less was not set: it drifts


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
        """Also where no step was seen: nobody may have looked between one forwards and the one back."""
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
