"""One timer for all running attempts, set to the earliest deadline: one each would cost 3 us of a no-op's 30."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta

from qw.core.duration import format_duration
from qw.services.execution.in_flight import ClaimInFlight, Stop


class Deadlines:
    """Interrupts the claims of *in_flight* whose deadline has passed."""

    def __init__(self, in_flight: Iterable[ClaimInFlight]) -> None:
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._armed_for = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, holding: ClaimInFlight, limit: timedelta) -> None:
        """Interrupt *holding* once it has run for *limit*."""
        assert holding.started is not None
        holding.limit = limit
        holding.deadline = holding.started + limit.total_seconds()
        if holding.deadline < self._armed_for:
            self._arm(holding.deadline)

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._ring)

    def _ring(self) -> None:
        now = time.monotonic()
        self._armed_for, self._timer = float("inf"), None
        earliest = float("inf")
        for holding in self._in_flight:
            if holding.stop is None and holding.deadline <= now:
                holding.interrupt(Stop.TIMEOUT, f"timed out after {format_duration(holding.limit or timedelta())}")
            elif holding.stop is None:
                earliest = min(earliest, holding.deadline)
        if earliest < float("inf"):
            self._arm(earliest)
