"""Whether this process may still believe that its claims are its own.

The database decides who is dead, by its clock. The process cannot ask it when it is cut off, so it goes by its own
monotonic clock: from the moment before the last beat that succeeded, for the length of the lease and no longer. That is
on the safe side, since the database saw the beat after that moment. A process frozen past its lease finds out at its
first look at the clock, before it starts anything.
"""

from __future__ import annotations

import time
from datetime import timedelta


class Lease:
    """Renewed by the heartbeat's thread, read by the event loop: one float, so no lock."""

    def __init__(self, length: timedelta) -> None:
        self.length = length
        self._until = 0.0

    def renew(self, sent_at: float) -> None:
        """A beat succeeded that was sent at *sent_at* of the monotonic clock."""
        self._until = sent_at + self.length.total_seconds()

    def revoke(self) -> None:
        """The database said that this worker is dead."""
        self._until = 0.0

    @property
    def holds(self) -> bool:
        return time.monotonic() < self._until
