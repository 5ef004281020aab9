"""A worker with all that it needs, on a real database, moved by hand: nothing runs between two steps but handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from qw.core.task import NewTask, Task
from qw.handlers import HandlerKind, Handlers
from qw.services.execution.in_flight import HandlerSlots, InFlight
from qw.services.execution.lanes import Lanes
from qw.services.execution.outcomes import Outcomes
from qw.services.execution.task_log import TaskLog
from qw.services.execution.worker import Worker, WorkerDeps
from qw.services.liveness import lease
from qw.services.liveness.lease import Lease
from qw.services.upkeep.continuation import Continuation
from qw.services.upkeep.measures import Measures
from qw.store import claims, tasks
from qw.store.connection import Connection, ReconnectingConnection, connect
from qw.store.handler_transaction import HandlerTransactions
from qw.store.pool import Pool
from tests.given import enqueued, registered

SLOTS = {HandlerKind.ASYNC: 100, HandlerKind.THREAD: 4, HandlerKind.PROCESS: 2}
PATIENCE = 60.0  # seconds; a test that waits longer has failed


class Workshop:
    """See the module. ``conn`` is a session of its own for looking on; ``number`` is the worker's."""

    def __init__(
        self, url: str, app: Handlers, conn: Connection, number: int, slots: dict[HandlerKind, int], pool_url: str
    ) -> None:
        self.url = url
        self.conn = conn
        self.number = number
        self.pool = Pool(pool_url, size=4, name="qw test pool")
        self.transactions = HandlerTransactions(pool_url, size=2)
        self.links = {
            name: ReconnectingConnection(url, name=f"qw test {name}")
            for name in ("worker", "outcomes", "log", "measures")
        }
        self.in_flight = InFlight()
        self.slots = HandlerSlots(slots)
        self.lease = Lease(timedelta(minutes=1))
        self.lease.confirm(lease.now())
        self.lanes = Lanes()
        self.measures = Measures(self.links["measures"])
        self.outcomes = Outcomes(
            self.links["outcomes"],
            self.in_flight,
            lambda: self.number,
            self.measures,
            store=lambda conn, ended: Continuation(self.worker).end(conn, ended),
        )
        self.log = TaskLog(self.links["log"])
        deps = WorkerDeps(
            handlers=app,
            slots=self.slots,
            lanes=self.lanes,
            lease=self.lease,
            in_flight=self.in_flight,
            outcomes=self.outcomes,
            measures=self.measures,
            pool=self.pool,
            transactions=self.transactions,
            log=self.log,
            worker=lambda: self.number,
        )
        self.worker = Worker(self.links["worker"], deps)

    async def enqueue(self, *new: NewTask) -> list[UUID]:
        return await enqueued(self.conn, *new)

    async def claim(self) -> None:
        """One look at the lanes, and a claim of what is in them."""
        self.worker.woken(await claims.lanes(self.conn))
        await self.worker.step()

    async def settle(self) -> None:
        """Go on until nothing runs, nothing waits for a slot and every outcome is written."""
        await self.until(lambda: not len(self.in_flight))

    async def until(self, condition: Callable[[], object]) -> None:
        """Write outcomes and log lines until *condition* is true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.outcomes.step()
                await self.log.step()
                await asyncio.sleep(0.001)

    async def run(self, *new: NewTask) -> list[Task]:
        """What became of new tasks after one claim."""
        ids = await self.enqueue(*new)
        await self.claim()
        await self.settle()
        return await tasks.get(self.conn, ids)

    async def run_one(self, new: NewTask) -> Task:
        return (await self.run(new))[0]

    async def kill_session(self, name: str) -> None:
        """End the worker's session of that name from outside, as a restart of the server would."""
        await self.conn.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = %s and datname = current_database()",
            [f"qw test {name}"],
        )

    async def task(self, id: UUID) -> Task:
        return (await tasks.get(self.conn, [id]))[0]


@asynccontextmanager
async def workshop(
    url: str, app: Handlers, slots: dict[HandlerKind, int] | None = None, *, pool_url: str | None = None
) -> AsyncIterator[Workshop]:
    async with await connect(url, name="qw test watcher") as conn:
        shop = Workshop(url, app, conn, await registered(conn), slots or SLOTS, pool_url or url)
        await shop.pool.open()
        try:
            yield shop
        finally:
            for holding in shop.in_flight:
                if holding.task is not None:
                    holding.task.cancel()
            for link in shop.links.values():
                await link.close()
            await shop.pool.close()
