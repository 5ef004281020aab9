"""The database's clock, as this process knows it.

The database's clock is the present: what is due, which id is new and which is from the future. A process whose own
clock is wrong must not matter, so its distance to the database is measured with each connection that is opened (in the
question that opening asks anyway) and carried on by the clock that counts from the machine's start, which nobody sets.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the former goes on while the machine sleeps
SLOW_SECONDS = 1.0  # an answer that took longer says too little, once there was a better one


def steady() -> float:
    """Seconds on the clock that nobody sets."""
    return time.clock_gettime(_STEADY)


class Clock:
    """One for the process; a process that talks to several databases knows the clock of the last one it opened."""

    def __init__(self) -> None:
        self._offset: float | None = None  # the database's time is this and the steady clock
        self._before = 0.0  # what it was until the last measurement
        self._first = 0.0

    def measured(self, asked: float, answered: float, database: float) -> None:
        """Between two readings of the steady clock the database said *database*, in seconds since 1970."""
        offset = database - (asked + answered) / 2
        if self._offset is None:
            self._first = self._before = self._offset = offset
        elif answered - asked <= SLOW_SECONDS:
            self._before, self._offset = self._offset, offset

    @property
    def stepped(self) -> float:
        """By how many seconds the database's clock was set since this process first asked; negative: back."""
        return 0.0 if self._offset is None else self._offset - self._first

    @property
    def skew(self) -> timedelta:
        """How far this process's own clock is ahead of the database's."""
        return timedelta(seconds=time.time() - self.seconds())

    def seconds(self) -> float:
        """The database's time in seconds since 1970; before any measurement, this process's."""
        return time.time() if self._offset is None else self._offset + steady()

    def latest_seconds(self) -> float:
        """The latest that may count as the present: what was new before the database's clock was set back still is."""
        return time.time() if self._offset is None else max(self._offset, self._before) + steady()

    def now(self) -> datetime:
        """The database's time."""
        return datetime.fromtimestamp(self.seconds(), UTC)


clock = Clock()
