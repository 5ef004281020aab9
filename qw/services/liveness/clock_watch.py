"""Measures the skew between this process's clock and the database's, and limits the damage when the latter is set.

The poller measures. All decisions use the database's clock (see `qw.clock`), so skew is only reported: once in the log,
and in the worker's row for status and metrics. When the database's clock is set back, stored times that are now in the
future are reset to the present: the positions of schedules and the buckets of rates.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from qw.clock import Clock, clock
from qw.store import queues, schedules, workers
from qw.store.connection import ReconnectingConnection

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
MARKS_EVERY = 30  # interval, in checks, at which marks in the future are corrected
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
        return CHECK_SECONDS

    async def step(self) -> bool:
        stepped, skew = self._clock.stepped, self._clock.skew
        moved, (worker, written) = stepped - self._stepped, self._written
        if moved <= -SET_SECONDS or self._looks % MARKS_EVERY == 0:  # it may have been set twice between checks
            await self._go_on_from_now()
        if worker != self._worker() or abs(skew - written) > CHANGED:
            async with self._link.use() as conn:
                await workers.set_skew(conn, self._worker(), skew)
            self._written = (self._worker(), skew)
        self._stepped = stepped
        self._looks += 1
        if abs(moved) >= SET_SECONDS:
            self._log_step(moved)
        self._log_skew(skew)
        return False

    async def _go_on_from_now(self) -> None:
        async with self._link.use() as conn:
            lowered = await schedules.lower_marks(conn)
            clamped = await queues.clamp_rates(conn)
        if lowered or clamped:
            log.warning(
                "schedules and rates were ahead of the database's clock; continuing from the current time",
                extra={"schedules": lowered, "rates": clamped},
            )

    def _log_step(self, seconds: float) -> None:
        text = "database clock was set forward: scheduled work is due earlier"
        if seconds < 0:
            text = "database clock was set back: scheduled work is due later"
        log.warning(text, extra={"seconds": round(abs(seconds), 1)})

    def _log_skew(self, skew: timedelta) -> None:
        is_large = abs(skew) >= LARGE
        if is_large and not self._is_large:
            log.warning(
                "clock of this machine differs from the database clock, which is used",
                extra={"seconds_ahead": round(skew.total_seconds(), 1)},
            )
        self._is_large = is_large
