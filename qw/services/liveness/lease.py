"""Whether this process may still act on its claims.

The database decides which workers are dead. A disconnected or frozen process cannot ask it, so it uses *confirmations*:
heartbeats and claims of this worker that the database answered. Each counts from the time before it was sent, which is
conservative, on a clock that never steps and continues while the machine is suspended.

- A handler *starts* only if a confirmation is younger than `START_SECONDS`, and after a gap (the process was frozen
  or suspended) only if it was sent after the gap: a worker is also declared dead when its session lock is released,
  which can happen long before the lease ends.
- *Running* handlers are stopped shortly before the lease ends, early enough that even a command that ignores TERM has
  ended before other workers may run its task. Child processes read this deadline themselves (`qw.handlers.leash`), so
  they end even while this process is stopped.
"""

from __future__ import annotations

import math
import threading
import time
from datetime import timedelta

from qw.handlers.leash import Leash

START_SECONDS = 3.0
GAP_SECONDS = 0.75  # a longer time between two pulses (normally 0.25 s) means that the process was frozen
STOP_SECONDS = 1.0  # handlers are stopped this long before the lease ends: 0.3 s between TERM and KILL, plus delays

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return the time of the lease clock in seconds. Compare it only with other values of this function."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Updated by the heartbeat thread and by claims, read by the event loop; *leash* passes it to child processes."""

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
        """Record that the database answered a request of this worker sent at *sent_at* (a value of `now`)."""
        with self._turn:
            if sent_at > self._revoked_at:
                self._confirm_from(max(self._confirmed_at, sent_at))

    def revoke(self) -> None:
        """Record that this worker was declared dead. Requests sent before no longer confirm anything."""
        with self._turn:
            self._revoked_at = now()
            self._confirm_from(-math.inf)

    def _confirm_from(self, sent_at: float) -> None:
        self._confirmed_at = sent_at
        if self.leash is not None:
            self.leash.extend(sent_at + self._runs_for)

    def pulse(self) -> bool:
        """Record that the process is running. Return True if it was frozen: handlers then wait for a confirmation."""
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
            return False  # was frozen until now
        return self._confirmed_at >= self._awake_since and present - self._confirmed_at < self._starts_for

    @property
    def holds(self) -> bool:
        """Whether running handlers may continue."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Return the seconds until running handlers must be stopped; negative if overdue."""
        return self._runs_for - self.age

    @property
    def age(self) -> float:
        """Return the seconds since the last confirmation; infinite before the first, and once revoked."""
        return now() - self._confirmed_at
