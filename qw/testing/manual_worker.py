"""`ManualWorker`: does everything that a daemon does for tasks, but only when the test calls it.

It consists of the services of the daemon, called step by step. Handlers run as in the daemon: coroutines in the event
loop, plain functions in threads, ``process=True`` in processes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from qw._version import __version__
from qw.config import Settings
from qw.core.errors import TimedOut
from qw.core.task import Lane, Task
from qw.daemon.app import opened
from qw.daemon.handlers import built_in
from qw.daemon.registration import offer_schedules, offer_types
from qw.handlers import HandlerKind, Handlers
from qw.services.execution.in_flight import HandlerSlots, InFlight, Stop
from qw.services.execution.lanes import Lanes
from qw.services.execution.outcomes import Outcomes
from qw.services.execution.records import captured
from qw.services.execution.task_log import TaskLog
from qw.services.execution.worker import Worker, WorkerDeps
from qw.services.liveness import lease as lease_clock
from qw.services.liveness.lease import Lease
from qw.services.upkeep.admitter import Admitter
from qw.services.upkeep.advancer import Advancer
from qw.services.upkeep.artifacts import ArtifactFolders
from qw.services.upkeep.measures import Measures
from qw.services.upkeep.promoter import Promoter
from qw.services.upkeep.resumer import Resumer
from qw.services.upkeep.scheduler import Scheduler
from qw.store import tasks, workers
from qw.store.claims import EndedAttempt
from qw.store.connection import ReconnectingConnection, connect_blocking
from qw.store.handler_transaction import HandlerTransactions
from qw.store.pool import Pool
from qw.testing.clock import adopt, move_clock

SLOTS = {HandlerKind.ASYNC: 100, HandlerKind.THREAD: 8, HandlerKind.PROCESS: 2}
PATIENCE = timedelta(seconds=60)  # of real time, for all that runs between two calls
FURTHEST = timedelta(days=366)  # that `run_until_empty` moves the clock
FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.02  # between two looks at handlers that run
_LEASE = timedelta(days=1)

# What becomes due next, and in how many seconds. Tasks without a handler here wait for a worker that has one.
_NEXT_TASK = """
select extract(epoch from least(
  (select min(run_at) from qw.scheduled where reason is distinct from 'unserved' and run_at < 'infinity'),
  (select min(at) from qw.advance)) - statement_timestamp())::float8
"""
_NEXT_SCHEDULE = "select extract(epoch from min(next_at) - statement_timestamp())::float8 from qw.schedule"


@dataclass(frozen=True, kw_only=True)
class _Services:
    """The services of one worker on one database."""

    worker: Worker
    outcomes: Outcomes
    log: TaskLog
    promoter: Promoter
    scheduler: Scheduler
    advancer: Advancer
    resumer: Resumer
    admitter: Admitter
    measures: Measures
    in_flight: InFlight


class ManualWorker:
    """A worker that does nothing between two calls. Created by `worker`."""

    def __init__(self, url: str, handlers: Handlers, stack: AsyncExitStack) -> None:
        self.url = url
        self._handlers = handlers
        self._stack = stack
        self._link = self._connection("testing")
        self._ended: dict[UUID, None] = {}
        self._has_moved = False
        self._number = 0

    async def run_until_empty(self, *, with_scheduled: bool = False) -> list[Task]:
        """Run everything that is due and everything that follows: tasks, workflow runs, schedules. Return the tasks.

        The result lists the tasks whose attempts ended, in that order, in their current state; a task to be retried is
        included. With *with_scheduled* the clock is moved to each due time (retries, delays, sleeps, timers of runs)
        until none is left. It is not moved for schedules, which never end; use `advance`. Raise TimedOut if handlers
        still run after a minute, or if tasks still wait after a year of the moved clock.
        """
        self._ended.clear()
        await self._run_what_is_due()
        moved = timedelta()
        while with_scheduled and (wait := await self._seconds(_NEXT_TASK)) is not None:
            moved += wait
            if moved > FURTHEST:
                raise TimedOut(f"tasks still wait after {FURTHEST.days} days of the clock; use advance()")
            await self._move(wait)
            await self._run_what_is_due()
        return await self._tasks(self._ended)

    async def advance(self, by: timedelta) -> list[Task]:
        """Move the clock forward and run what becomes due, each at its time. Return the tasks.

        Calls `run_until_empty` first, at each due time, and at the end. Each tick of a schedule is a due time.
        """
        self._ended.clear()
        await self._run_what_is_due()
        while (wait := await self._next()) is not None and wait <= by:
            await self._move(wait)
            by -= wait
            await self._run_what_is_due()
        await self._move(by)
        await self._run_what_is_due()
        return await self._tasks(self._ended)

    # -- the clock

    async def _next(self) -> timedelta | None:
        waits = [await self._seconds(_NEXT_TASK), await self._seconds(_NEXT_SCHEDULE)]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _seconds(self, statement: str) -> timedelta | None:
        async with self._link.use() as conn:
            row = await (await conn.execute(statement.encode())).fetchone()
        if row is None or row[0] is None:
            return None
        return timedelta(seconds=max(0.0, row[0])) + timedelta(milliseconds=1)

    async def _move(self, by: timedelta) -> None:
        async with self._link.use() as conn:
            await move_clock(conn, by)

    # -- running

    async def _run_what_is_due(self) -> None:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        pause = FIRST_PAUSE
        while True:
            has_moved = await self._pass()
            if not has_moved and not len(self._parts.in_flight):
                break
            if time.monotonic() > deadline:
                running = ", ".join(f"{held.claim.type} {held.claim.id}" for held in self._parts.in_flight)
                raise TimedOut(f"still running after {PATIENCE.seconds} s: {running or 'tasks keep coming'}")
            pause = FIRST_PAUSE if has_moved else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)
        await self._parts.measures.step()

    async def _pass(self) -> bool:
        """Run one step of each service. True if any did something, so there may be more."""
        parts = self._parts
        self._has_moved = False
        held = len(parts.in_flight)
        await parts.outcomes.step()
        await parts.log.step()
        while await parts.scheduler.step():
            self._has_moved = True
        while await parts.promoter.step():
            pass
        while await parts.advancer.step():
            self._has_moved = True
        while await parts.resumer.step():
            pass
        await self._look()
        while await parts.admitter.step():
            pass
        await parts.worker.step()
        return self._has_moved or len(parts.in_flight) != held

    async def _look(self) -> None:
        """What the poller of a daemon does."""
        parts = self._parts
        async with self._link.use() as conn:
            poll = await workers.poll(conn, self._number, cursor=parts.promoter.cursor)
            if poll.cancels:
                await tasks.settle_cancels(conn)
                parts.worker.interrupt(await workers.asked(conn, self._number))
        parts.worker.woken(poll.lanes)
        parts.admitter.polled(poll.limits)

    def _woken(self, lanes: Iterable[Lane]) -> None:
        lanes = list(lanes)
        self._has_moved = self._has_moved or bool(lanes)
        self._parts.worker.woken(lanes)
        self._parts.admitter.ask(lane.queue for lane in lanes)

    def _note(self, ended: Sequence[EndedAttempt]) -> None:
        self._has_moved = True
        self._ended.update(dict.fromkeys(attempt.id for attempt in ended if attempt.seconds is not None))
        self._parts.admitter.ask(attempt.queue for attempt in ended)

    async def _tasks(self, ids: Iterable[UUID]) -> list[Task]:
        async with self._link.use() as conn:
            by_id = {task.id: task for task in await tasks.get(conn, list(ids))}
        return [by_id[id] for id in ids if id in by_id]

    # -- building

    async def _start(self, output: Path) -> None:
        with connect_blocking(self.url, name="qw testing") as conn:
            adopt(conn)
        pool = Pool(self.url, size=4, name="qw testing pool")
        await pool.open()
        self._stack.push_async_callback(pool.close)
        settings = Settings(database_url=self.url, output_dir=output, home=output)
        handlers, close = built_in(settings, {}, pool, {}, ArtifactFolders(output / "artifacts"))
        self._stack.push_async_callback(close)
        handlers.include(self._handlers)
        await self._stack.enter_async_context(opened(handlers))
        with connect_blocking(self.url, name="qw testing") as conn:
            self._number = _register(conn, handlers)
        async with pool.connection() as conn:
            await offer_types(conn, handlers)
        await offer_schedules(pool, handlers, owner="app under test", by="qw.testing")
        self._parts = self._make(pool, handlers)
        self._stack.enter_context(captured(self._parts.log))

    def _make(self, pool: Pool, handlers: Handlers) -> _Services:
        in_flight, measures, chores = InFlight(), Measures(self._link), self._connection("testing chores")
        lease = Lease(_LEASE)
        lease.confirm(lease_clock.now())
        outcomes = Outcomes(
            self._connection("testing outcomes"), in_flight, lambda: self._number, measures, ended=self._note
        )
        log = TaskLog(self._link)
        deps = WorkerDeps(
            handlers=handlers,
            slots=HandlerSlots(SLOTS),
            lanes=Lanes(),
            lease=lease,
            in_flight=in_flight,
            outcomes=outcomes,
            measures=measures,
            pool=pool,
            transactions=HandlerTransactions(self.url, size=8),
            log=log,
            worker=lambda: self._number,
        )
        worker = Worker(self._connection("testing worker"), deps)
        return _Services(
            worker=worker,
            outcomes=outcomes,
            log=log,
            promoter=Promoter(chores, self._woken),
            scheduler=Scheduler(chores, self._woken),
            advancer=Advancer(chores, self._woken),
            resumer=Resumer(chores, self._woken),
            admitter=Admitter(chores, self._woken),
            measures=measures,
            in_flight=in_flight,
        )

    def _connection(self, name: str) -> ReconnectingConnection:
        link = ReconnectingConnection(self.url, name=f"qw {name}")
        self._stack.push_async_callback(link.close)
        return link

    async def _stop(self) -> None:
        """Stop the handlers that a failed test left running."""
        self._parts.worker.interrupt_all(Stop.DRAIN, "the test is over")
        left = [held.task for held in self._parts.in_flight if held.task is not None]
        if left:
            await asyncio.wait(left, timeout=5)


def _register(conn: workers.Blocking, handlers: Handlers) -> int:
    return workers.register(
        conn,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        types=sorted(handler.type for handler in handlers),
        versions={handler.type: handler.version for handler in handlers},
        queues=(),
        slots={kind.value: size for kind, size in SLOTS.items()},
    )


@asynccontextmanager
async def worker(url: str, handlers: Handlers, *, output: Path | None = None) -> AsyncIterator[ManualWorker]:
    """Return a worker for the database at *url*, with *handlers* and the built-in ones. It runs only when called.

    *output*: the directory for files that built-in handlers write; None: the current directory.
    """
    async with AsyncExitStack() as stack:
        made = ManualWorker(url, handlers, stack)
        await made._start(output or Path.cwd())
        stack.push_async_callback(made._stop)
        yield made
