"""The database's clock, as estimated by this process.

The database's clock decides what is due, and whether an id is new or lies in the future. So that a wrong local clock
has no effect, each new connection measures the offset between the database's clock and this machine's boot-time clock
(in a query that it makes anyway). Between measurements, the boot-time clock, which cannot be set, advances the time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # BOOTTIME also counts while the machine is suspended
SLOW_SECONDS = 1.0  # slower measurements are too inexact to replace an earlier one


def steady() -> float:
    """Return the seconds since boot (CLOCK_BOOTTIME, else CLOCK_MONOTONIC), a clock that cannot be set."""
    return time.clock_gettime(_STEADY)


class Clock:
    """The clock of the process. If the process uses several databases, it is that of the last one it connected to."""

    def __init__(self) -> None:
        self._offset: float | None = None  # seconds to add to the steady clock for the database's time
        self._before = 0.0  # the offset before the last measurement
        self._first = 0.0

    def measured(self, asked: float, answered: float, database: float) -> None:
        """Record that the database's time was *database* (seconds since 1970) between two steady clock readings."""
        offset = database - (asked + answered) / 2
        if self._offset is None:
            self._first = self._before = self._offset = offset
        elif answered - asked <= SLOW_SECONDS:
            self._before, self._offset = self._offset, offset

    @property
    def stepped(self) -> float:
        """By how many seconds the database's clock was set since the first measurement; negative: backwards."""
        return 0.0 if self._offset is None else self._offset - self._first

    @property
    def skew(self) -> timedelta:
        """How far this process's own clock is ahead of the database's."""
        return timedelta(seconds=time.time() - self.seconds())

    def seconds(self) -> float:
        """Return the database's time in seconds since 1970; before the first measurement, the local time."""
        return time.time() if self._offset is None else self._offset + steady()

    def latest_seconds(self) -> float:
        """Return the upper bound for the present: ids made before the database's clock was set back remain valid."""
        return time.time() if self._offset is None else max(self._offset, self._before) + steady()

    def now(self) -> datetime:
        """Return the database's time, in UTC."""
        return datetime.fromtimestamp(self.seconds(), UTC)


clock = Clock()
