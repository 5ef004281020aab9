"""Stops the handlers of a process that may no longer believe in its claims: frozen, or cut off, for a lease."""

from __future__ import annotations

import asyncio

from qw.services.in_flight import Stop
from qw.services.lease import Lease
from qw.services.worker import Worker


class LeaseGuard:
    """Looks at the monotonic clock four times a second; needs no database."""

    name = "lease guard"

    def __init__(self, lease: Lease, worker: Worker) -> None:
        self._lease = lease
        self._worker = worker
        self.bell = asyncio.Event()

    def patience(self) -> float:
        return 0.25

    async def step(self) -> bool:
        if not self._lease.holds:
            self._worker.interrupt_all(Stop.LEASE, "the lease ran out")
            self._worker.return_unstarted()
        return False
