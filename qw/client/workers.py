"""`Client.workers`: list workers and their running tasks; drain them."""

from __future__ import annotations

from qw.client.acting import audited
from qw.client.connections import Namespace
from qw.core.errors import NotFound
from qw.store import workers
from qw.store.workers import InHand, WorkerRow


class Workers(Namespace):
    async def all(self) -> list[WorkerRow]:
        """Live workers, newest first."""
        async with self._db.connection() as conn:
            return await workers.living(conn)

    async def running(self, worker: int) -> list[InHand]:
        """The running tasks of a worker, longest-running first."""
        async with self._db.connection() as conn:
            return await workers.running_in(conn, worker)

    @audited("worker drain")
    async def drain(self, id: int) -> None:
        """Ask a worker to drain and stop. Raise NotFound if it is not running."""
        async with self._db.operating() as conn:
            if not await workers.drain(conn, id):
                raise NotFound(f"worker {id} is not running; list running workers: qw worker list")
