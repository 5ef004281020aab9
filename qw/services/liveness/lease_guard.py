"""Stops the handlers of a process that was frozen or disconnected for most of its lease and may lose its claims."""

from __future__ import annotations

import asyncio

from qw.services.execution.in_flight import Stop
from qw.services.execution.worker import Worker
from qw.services.liveness.heartbeat import Heartbeat
from qw.services.liveness.lease import Lease


class LeaseGuard:
    """Checks the clock four times a second and at the end of the lease; does not need the database."""

    name = "lease guard"

    def __init__(self, lease: Lease, worker: Worker, heartbeat: Heartbeat | None = None) -> None:
        self._lease = lease
        self._worker = worker
        self._heartbeat = heartbeat
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        left = self._lease.left
        return min(0.25, left) if left > 0 else 0.25

    async def step(self) -> bool:
        self._lease.pulse()
        if self._heartbeat is not None:
            self._heartbeat.revive()
        if not self._lease.holds:
            self._worker.interrupt_all(Stop.LEASE, "the lease expired")
            self._worker.return_unstarted()
        return False
