"""Whether this process may still believe that its claims are its own.

The database decides who is dead, by its clock. The process cannot ask it when it is cut off, so it goes by its own
monotonic clock: from the moment before the last beat that succeeded, for the length of the lease and no longer. That is
on the safe side, since the database saw the beat after that moment. A process frozen past its lease finds out at its
first look at the clock, before it starts anything.
"""

from __future__ import annotations

import math
import time
from datetime import timedelta


class Lease:
    """Renewed by the heartbeat's thread, read by the event loop: one float, so no lock."""

    def __init__(self, length: timedelta) -> None:
        self.length = length
        self._until = 0.0
        self._beat_at = -math.inf
        self._beating_since = -math.inf

    def renew(self, sent_at: float) -> None:
        """A beat succeeded that was sent at *sent_at* of the monotonic clock."""
        if sent_at - self._beat_at > self._longest_pause:
            self._beating_since = sent_at
        self._beat_at = sent_at
        self._until = sent_at + self.length.total_seconds()

    def revoke(self) -> None:
        """The database said that this worker is dead."""
        self._until = 0.0

    @property
    def beating_since(self) -> float | None:
        """When the beats began that went on until now without a long pause; None: the last one is long ago."""
        is_fresh = time.monotonic() - self._beat_at <= self._longest_pause
        return self._beating_since if is_fresh else None

    @property
    def _longest_pause(self) -> float:
        return self.length.total_seconds() / 2

    @property
    def holds(self) -> bool:
        return time.monotonic() < self._until
