"""`Client.workers`: list workers and their running tasks; change their slots; drain them."""

from __future__ import annotations

from qw.client.acting import audited
from qw.client.connections import Namespace
from qw.core.errors import NotFound
from qw.core.worker_slots import SlotChange
from qw.store import workers
from qw.store.workers import InHand, WorkerRow


class Workers(Namespace):
    async def all(self) -> list[WorkerRow]:
        """Return live workers, newest first."""
        async with self._db.connection() as conn:
            return await workers.living(conn)

    async def running(self, worker: int) -> list[InHand]:
        """Return the running tasks of a worker, longest-running first."""
        async with self._db.connection() as conn:
            return await workers.running_in(conn, worker)

    @audited("worker drain")
    async def drain(self, id: int) -> None:
        """Ask a worker to drain and stop. Raise NotFound if it is not running."""
        async with self._db.operating() as conn:
            if not await workers.drain(conn, id):
                raise NotFound(f"worker {id} is not running; list running workers: qw worker list")

    @audited("worker slots")
    async def resize(self, change: SlotChange, *ids: int) -> list[int]:
        """Change how many handlers the given workers run at once; without ids, all running workers. Return their ids.

        Takes effect within about a second and lasts until the worker stops. Raise NotFound if a worker is not running;
        then none is changed.
        """
        async with self._db.operating() as conn:
            resized = await workers.resize(conn, ids or None, change.sizes)
            for id in ids:
                if id not in resized:
                    raise NotFound(f"worker {id} is not running; list running workers: qw worker list")
            return resized
