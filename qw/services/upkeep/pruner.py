"""Deletes rows past their retention, and folds the counters.

It uses its own connection, so that it delays no other service. Each statement is limited in rows and time: a slow batch
halves the size of the next. Several daemons prune concurrently and skip rows locked by another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from qw.clock import clock
from qw.core.schedule import FIRES_KEPT
from qw.core.task import Status
from qw.services.upkeep.artifacts import ArtifactFolders
from qw.store import applied, audit, bulk, events, fires, history, queues, runs, stacks, tasks, workers
from qw.store.connection import Connection, ReconnectingConnection, bounded, measure_clock

FOLD_SECONDS = 10.0
BUSY_FOLD_SECONDS = 2.0  # interval between folds while a thousand rows accumulate in between
IDLE_FOLD_SECONDS = 20.0  # interval while there is nothing to fold
PRUNE_SECONDS = 300.0
BATCH, LEAST_BATCH = 1000, 10
RUNS = 10  # runs per batch; each may have 10,000 tasks
SLOW_SECONDS, FAST_SECONDS = 0.5, 0.1  # a statement that took longer halves the batch; a shorter one doubles it
LONGEST_SECONDS = 5.0  # timeout of every statement
SET_FORWARD_SECONDS = 60.0  # a larger jump of the clock counts as set, not as drift
UNWANTED = timedelta(days=7)  # events that no relay has requested for this long are dropped
AUDIT_KEPT = timedelta(days=90)
VERSIONS_KEPT = 10  # minimum versions kept per workflow, besides those in use
FIRST = UUID(int=0)
APPLIED_KEPT = 100  # minimum entries kept of the history of `qw apply`

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Retention:
    """The retention times. ``failed``: of failed and cancelled tasks."""

    completed: timedelta
    failed: timedelta
    keys: timedelta
    events: timedelta


class Pruner:
    """See the module. ``batch``: maximum rows of the next statement."""

    name = "pruner"

    def __init__(
        self, link: ReconnectingConnection, retention: Retention, artifacts: ArtifactFolders | None = None
    ) -> None:
        self._link = link
        self._artifacts = artifacts
        self._retention = retention
        self._pruned_at = time.monotonic()
        self._pause = FOLD_SECONDS
        self._folded = 0
        self.batch = BATCH
        self._after: dict[Status, UUID] = {}  # where the scan of finished tasks continues
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return self._pause

    async def step(self) -> bool:
        async with self._link.use() as conn:
            folded = await self._one(conn, lambda: tasks.fold_tally(conn))
        self._pause = BUSY_FOLD_SECONDS if folded > BATCH else FOLD_SECONDS
        if folded == self._folded:  # only one row per queue is left
            self._pause = IDLE_FOLD_SECONDS
        self._folded = folded
        if time.monotonic() - self._pruned_at >= PRUNE_SECONDS:
            if await self.prune():
                return True
            self._pruned_at = time.monotonic()
        return False

    async def prune(self) -> bool:
        """Delete one batch of rows past their retention. Return True if there may be more."""
        kept, batch = self._retention, self.batch
        async with self._link.use() as conn:
            await measure_clock(conn)
            more = self._set_forward()
            completed, failed = kept.completed + more, kept.failed + more
            counts = [
                await self._prune_tasks(conn, Status.COMPLETED, completed, batch),
                await self._prune_tasks(conn, Status.FAILED, failed, batch),
                await self._prune_tasks(conn, Status.CANCELLED, failed, batch),
                await self._prune_runs(conn, completed, failed),
                await self._one(conn, lambda: tasks.prune_keys(conn, age=kept.keys + more, limit=batch)),
                await self._one(conn, lambda: fires.prune(conn, age=FIRES_KEPT + more, limit=batch)),
                await self._one(conn, lambda: events.prune(conn, age=kept.events + more, limit=batch)),
                await self._one(conn, lambda: events.forget_unwanted(conn, age=UNWANTED + more, limit=batch)),
                await self._one(conn, lambda: queues.prune_rates(conn, limit=batch)),
                await self._one(conn, lambda: runs.prune_versions(conn, age=failed, keep=VERSIONS_KEPT, limit=batch)),
                await self._one(conn, lambda: history.prune(conn, more=more, limit=batch)),
                await self._one(conn, lambda: bulk.prune(conn, age=failed, limit=batch)),
                await self._one(conn, lambda: stacks.prune(conn, limit=batch)),
                await self._one(conn, lambda: audit.prune(conn, age=AUDIT_KEPT + more, limit=batch)),
                await self._one(conn, lambda: applied.prune(conn, age=failed, keep=APPLIED_KEPT, limit=batch)),
            ]
            await self._one(conn, lambda: workers.prune(conn, age=failed))
            if self._artifacts and max(counts) < batch:
                await self._artifacts.prune(conn)
        return max(counts) >= batch

    def _set_forward(self) -> timedelta:
        """Return by how much the database's clock was set forward while this process ran.

        Rows finished before the change are younger than they seem by that much, and must not be deleted early.
        """
        seconds = clock.stepped
        return timedelta(seconds=seconds) if seconds > SET_FORWARD_SECONDS else timedelta(0)

    async def _prune_tasks(self, conn: Connection, status: Status, age: timedelta, limit: int) -> int:
        """Delete the next finished tasks of *status* past retention. Return *limit* if there are more to check."""
        after = self._after.get(status, FIRST)
        old, last = await self._one(conn, lambda: tasks.past_retention(conn, status, age=age, after=after, limit=limit))
        await self._delete_tasks(conn, old)
        self._after[status] = last or FIRST
        return limit if last else len(old)

    async def _prune_runs(self, conn: Connection, completed: timedelta, failed: timedelta) -> int:
        """Delete runs past their retention, with their tasks. Return BATCH if there may be more, else 0."""
        old = await self._one(conn, lambda: runs.past_retention(conn, completed=completed, failed=failed, limit=RUNS))
        gone = await self._one(conn, lambda: runs.prune(conn, old)) if old else []
        while gone and (left := await self._one(conn, lambda: runs.finished_tasks(conn, gone, limit=self.batch))):
            if not await self._delete_tasks(conn, left):
                break  # locked by another pruner
        return BATCH if len(gone) == RUNS else 0

    async def _delete_tasks(self, conn: Connection, ids: Sequence[UUID]) -> int:
        if not ids:
            return 0
        while await self._one(conn, lambda: tasks.prune_history(conn, ids, limit=self.batch)):
            pass
        return await self._one(conn, lambda: tasks.prune(conn, ids))

    async def _one(self, conn: Connection, statement: Callable[[], Awaitable[T]]) -> T:
        """Run one statement, and adjust the batch size by its duration."""
        started = time.monotonic()
        try:
            async with bounded(conn, LONGEST_SECONDS):
                done = await statement()
        except Exception:
            self.batch = max(LEAST_BATCH, self.batch // 2)
            raise
        took = time.monotonic() - started
        if took > SLOW_SECONDS:
            self.batch = max(LEAST_BATCH, self.batch // 2)
        elif took < FAST_SECONDS:
            self.batch = min(BATCH, self.batch * 2)
        return done
