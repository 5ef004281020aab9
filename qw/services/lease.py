"""Whether this process may still act on its claims.

The database decides who is dead. The process cannot ask it when it is cut off or frozen, so it goes by *confirmations*:
a heartbeat or a claim that the database answered in this worker's name. Each counts from the moment before it was sent,
which is on the safe side, on a clock that never steps and goes on while the machine is suspended.

- A handler *starts* only when a confirmation is younger than `START_SECONDS`, and after a gap (the process was frozen
  or suspended) only when it was sent after the gap. For the sign that a worker is dead may also be its session lock,
  which can go long before the lease ends.
- What *runs* goes on until shortly before the lease ends: so early that even a command which ignores TERM is gone when
  others may run its task again. Child processes read this deadline by themselves (`qw.handlers.leash`), so they end
  even while this process is stopped.
"""

from __future__ import annotations

import math
import threading
import time
from datetime import timedelta

from qw.handlers.leash import Leash

START_SECONDS = 3.0
GAP_SECONDS = 0.75  # without a sign that the process runs; it gives one four times a second
STOP_SECONDS = 1.0  # before the end of the lease: 0.3 s between TERM and KILL, and what the machine takes for them

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds of the clock that leases are measured by. Compare only with other values of this function."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Confirmed by the heartbeat's thread and by claims, read by the event loop; *leash* tells child processes."""

    def __init__(self, length: timedelta, leash: Leash | None = None) -> None:
        self.leash = leash
        self.length = length.total_seconds()
        self._runs_for = self.length - min(STOP_SECONDS, self.length / 3)
        self._starts_for = min(START_SECONDS, self._runs_for)
        self._turn = threading.Lock()
        self._confirmed_at = -math.inf
        self._revoked_at = -math.inf
        self._awake_since = -math.inf
        self._pulse_at: float | None = None

    def confirm(self, sent_at: float) -> None:
        """The database answered in this worker's name what was sent at *sent_at*, of `now`."""
        with self._turn:
            if sent_at > self._revoked_at:
                self._confirm_from(max(self._confirmed_at, sent_at))

    def revoke(self) -> None:
        """The database said that this worker is dead. What was sent before confirms nothing any more."""
        with self._turn:
            self._revoked_at = now()
            self._confirm_from(-math.inf)

    def _confirm_from(self, sent_at: float) -> None:
        self._confirmed_at = sent_at
        if self.leash is not None:
            self.leash.extend(sent_at + self._runs_for)

    def pulse(self) -> bool:
        """The process runs. True: it did not for a while, so only what is confirmed from now on lets handlers start."""
        present = now()
        was_frozen = self._pulse_at is not None and present - self._pulse_at > GAP_SECONDS
        if was_frozen:
            self._awake_since = present
        self._pulse_at = present
        return was_frozen

    @property
    def may_start(self) -> bool:
        """Whether a handler may start now."""
        present = now()
        if self._pulse_at is not None and present - self._pulse_at > GAP_SECONDS:
            return False  # frozen until this moment
        return self._confirmed_at >= self._awake_since and present - self._confirmed_at < self._starts_for

    @property
    def holds(self) -> bool:
        """Whether what runs may go on."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Seconds until what runs must be stopped; negative when it must have been."""
        return self._runs_for - self.age

    @property
    def age(self) -> float:
        """Seconds since the last confirmation; infinite before the first, and once revoked."""
        return now() - self._confirmed_at
