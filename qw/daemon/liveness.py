"""Whether this process works properly, for systemd's watchdog, `/livez` and `/readyz`. Safe to use from any thread.

A handler that blocks the event loop is no failure within its timeout: the heartbeat has its own thread, so the lease
holds, and killing the process would cost all of its tasks a crash. A database outage is no failure either.
"""

from __future__ import annotations

import asyncio
import time

from qw.handlers import HandlerKind
from qw.services.execution.in_flight import ClaimState, InFlight
from qw.services.liveness.heartbeat import Heartbeat
from qw.services.liveness.lease import Lease

PATIENCE_SECONDS = 15.0
TURN_SECONDS = 1.0


class Liveness:
    def __init__(self, heartbeat: Heartbeat, lease: Lease, in_flight: InFlight) -> None:
        self._heartbeat = heartbeat
        self._lease = lease
        self._in_flight = in_flight
        self._turned_at = self._beat_at = self._held_at = time.monotonic()
        self.is_draining = False

    async def watch_loop(self) -> None:
        """Runs in the event loop and records that it makes progress."""
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(TURN_SECONDS)

    def trouble(self) -> str | None:
        """A failure that only a restart can solve; None: there is none."""
        now, beat = time.monotonic(), self._heartbeat.state
        if beat.is_running:
            self._beat_at = now
        if beat.error is not None or self._lease.holds:
            self._held_at = now  # held, or out of contact and on the way to get it back
        if now - self._beat_at > PATIENCE_SECONDS:
            return "the heartbeat thread has ended"
        if now - self._turned_at > PATIENCE_SECONDS and not self._is_excused(now):
            return "the event loop is stuck, and no handler within its timeout is blocking it"
        if now - self._held_at > PATIENCE_SECONDS + self._lease.length and not self._is_excused(now):
            return "the lease is not confirmed although the database responds"
        return None

    def unready(self) -> str | None:
        """Why no task would start now; None: one would."""
        if self.is_draining:
            return "the daemon is stopping"
        if not self._lease.holds:
            return "the lease of the worker is not confirmed"
        return self.trouble()

    def _is_excused(self, now: float) -> bool:
        """Whether a handler that may block the loop is within its timeout. Handlers in other processes cannot block
        it.
        """
        running = [holding for holding in self._in_flight if holding.state is ClaimState.RUNNING]
        return any(
            holding.kind is not HandlerKind.PROCESS and now < holding.deadline + PATIENCE_SECONDS for holding in running
        )
