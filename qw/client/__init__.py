"""The queue for programs: every verb that people have, as a method.

async with Client(url) as client:
    task = await client.enqueue("send_email", {"customerId": "zoe", "invoiceId": "INV-7"})
    await client.wait([task.id])
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from uuid import UUID

from qw.client.coalesce import Coalescer
from qw.core.errors import Conflict, Invalid, NotFound, TimedOut, among
from qw.core.task import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    Attempt,
    Backoff,
    Enqueued,
    NewTask,
    OnConflict,
    Status,
    Task,
    check_new,
    key_faults,
)
from qw.core.task.payload import Json, JsonObject, raise_faults, storable_faults
from qw.store import tasks
from qw.store.connection import Connection, ReconnectingConnection, translated
from qw.store.ids import new_id
from qw.store.pool import PATIENCE, Pool, Single, as_operator
from qw.store.tasks import LAST_ID, Filter, LogLine, QueueStats

if TYPE_CHECKING:
    from qw.client.schedules import Schedules
    from qw.core.workflow import Workflow
    from qw.core.workflow.run import RunStatus
    from qw.store.runs import StoredRun, StoredStep, StoredWorkflow
    from qw.store.workers import WorkerRow

# What workflows and schedules need is imported by the methods that do, so that a lone enqueue does not wait for it.

T = TypeVar("T")

COPY_BATCH = 5000
ID_BATCH = 1000
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between two looks of a wait


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """A run with its steps, in the order they began."""

    run: StoredRun
    steps: list[StoredStep]


class Client:
    """A context manager. With ``size=1`` it keeps one connection, opened when first used: right for a command."""

    def __init__(self, url: str, *, size: int = 10, name: str = "qw client", patience: float = PATIENCE) -> None:
        """*patience*: seconds to wait for a free connection before Unavailable is raised."""
        self._url, self._size, self._name, self._patience = url, size, name, patience
        self._make()

    def _make(self) -> None:
        link = ReconnectingConnection(self._url, name=self._name, guarded=False)
        self._pool: Pool | Single = (
            Single(link)
            if self._size == 1
            else Pool(self._url, size=self._size, name=self._name, patience=self._patience)
        )
        self._coalescer = Coalescer(link)  # a connection of its own: a third less time than one from the pool
        self._stack = AsyncExitStack()

    @property
    def schedules(self) -> Schedules:
        """The schedules, with verbs of their own."""
        from qw.client.schedules import Schedules

        return Schedules(self._pool)

    async def __aenter__(self) -> Self:
        self._make()  # anew: it may have been open before, under another event loop
        await self._pool.open()
        self._stack.push_async_callback(self._pool.close)
        self._stack.push_async_callback(self._coalescer.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Enqueues under way get a few seconds to be stored; later calls raise Unavailable."""
        await self._stack.aclose()

    # -- into the queue

    async def enqueue(
        self,
        type: str,
        payload: JsonObject | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        max_retries: int | None = None,
        timeout: timedelta | None = None,
        backoff: Backoff | None = None,
        unique_key: str | None = None,
        on_conflict: OnConflict = "error",
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        parent_id: UUID | None = None,
        id: UUID | None = None,
        conn: Connection | None = None,
    ) -> Enqueued:
        """Enqueue a task; it is committed when this returns, or with *conn*'s transaction where that is given.

        Safe to repeat with the same *id* or *idempotency_key*. A *unique_key* held by a task that is not final raises
        Conflict, unless *on_conflict* says ``skip`` (the holder stands for the task) or ``replace`` (a holder that
        waits is cancelled first).
        """
        task = NewTask(
            type=type,
            id=id or new_id(),
            payload={} if payload is None else payload,
            queue=queue,
            priority=priority,
            run_at=run_at,
            delay=delay,
            max_retries=max_retries,
            timeout=timeout,
            backoff=backoff,
            unique_key=unique_key,
            idempotency_key=idempotency_key,
            headers=headers,
            parent_id=parent_id,
        )
        return await self.enqueue_task(task, on_conflict=on_conflict, conn=conn)

    async def enqueue_task(
        self, task: NewTask, *, on_conflict: OnConflict = "error", conn: Connection | None = None
    ) -> Enqueued:
        """The same for a task that is a value already."""
        check_new(task)
        if task.unique_key or task.idempotency_key:
            return await self._enqueue_keyed(task, on_conflict, conn)
        if conn is None:
            return Enqueued(id=task.id, is_new=await self._coalescer.enqueue(task))
        with translated():
            return Enqueued(id=task.id, is_new=task.id in await tasks.enqueue(conn, [task]))

    async def _enqueue_keyed(self, task: NewTask, on_conflict: OnConflict, conn: Connection | None) -> Enqueued:
        async with self._connection(conn) as c:
            if on_conflict == "replace":
                id = await _enqueue_replacing(c, task)
            else:
                id = await tasks.enqueue_keyed(c, task, on_conflict)
        return Enqueued(id=id, is_new=id == task.id)

    async def enqueue_many(self, new: Iterable[NewTask]) -> int:
        """Enqueue many tasks by COPY, in transactions of 5,000. Returns how many are new. Safe to repeat.

        Tasks with keys are stored one by one; a key that is taken counts as known.
        """
        count = 0
        batch: list[NewTask] = []
        for task in new:
            check_new(task)
            batch.append(task)
            if len(batch) == COPY_BATCH:
                count += await self._store(batch)
                batch = []
        return count + (await self._store(batch) if batch else 0)

    async def _store(self, batch: Sequence[NewTask]) -> int:
        plain = [task for task in batch if not task.unique_key and not task.idempotency_key]
        keyed = [task for task in batch if task.unique_key or task.idempotency_key]
        async with self._pool.connection() as conn, conn.transaction():
            count = len(await tasks.enqueue_many(conn, plain)) if plain else 0
            for task in keyed:
                count += await tasks.enqueue_keyed(conn, task, "skip") == task.id
        return count

    async def types(self) -> list[str]:
        """The types that somebody has served."""
        from qw.store import types

        async with self._pool.connection() as conn:
            return await types.names(conn)

    async def check_type(self, type: str) -> None:
        """Raise Invalid for a type that no worker has ever registered, naming the known ones."""
        known = await self.types()
        if type not in known:
            raise Invalid(f"unknown task type {type!r}: no worker has registered a handler for it{among(type, known)}")

    # -- looked up

    async def get(self, id: UUID) -> Task:
        """The task as it stands now."""
        async with self._pool.connection() as conn:
            return await _the_task(conn, id)

    async def find(self, match: Filter | None = None, *, limit: int = 100, before: UUID = LAST_ID) -> list[Task]:
        """Matching tasks, the newest first, at most 1,000; the page after them begins *before* the last one's id."""
        match = match or Filter()
        async with self._pool.connection() as conn:
            ids = await tasks.find(conn, match, limit=min(limit, 1000), before=before)
            found = await tasks.get(conn, ids)
        return [task for task in found if match.status in (None, task.status)]

    async def find_ids(self, match: Filter | None = None, *, limit: int = 1000, before: UUID = LAST_ID) -> list[UUID]:
        """The ids of matching tasks, the newest first: for many. The next page begins *before* the last one."""
        async with self._pool.connection() as conn:
            return await tasks.find(conn, match or Filter(), limit=limit, before=before)

    async def resolve(self, text: str, *, path: str = "id") -> UUID:
        """The id of the one task whose id begins with *text* (at least four hexadecimal digits)."""
        digits = text.strip().lower().replace("-", "")
        if not 4 <= len(digits) <= 32 or any(char not in "0123456789abcdef" for char in digits):
            raise Invalid(f"{path}: {text[:60]!r} is not a task id")
        if len(digits) == 32:
            return UUID(digits)
        async with self._pool.connection() as conn:
            ids = await tasks.resolve(conn, digits)
        if len(ids) > 1:
            raise Conflict(f"{text} is the beginning of more than one id: {', '.join(map(str, ids))}")
        if not ids:
            raise NotFound(f"no task id begins with {text}")
        return ids[0]

    async def attempts(self, id: UUID) -> list[Attempt]:
        """The task's attempts that did not end as its final result, oldest first."""
        async with self._pool.connection() as conn:
            await _the_task(conn, id)
            return await tasks.attempts(conn, id)

    async def logs(self, id: UUID, *, after: int = 0) -> list[LogLine]:
        """The task's log lines after the line numbered *after*, oldest first."""
        async with self._pool.connection() as conn:
            await _the_task(conn, id)
            return await tasks.read_logs(conn, id, after=after)

    async def progress(self, id: UUID) -> tuple[float, str] | None:
        """The fraction and text that the task last reported."""
        async with self._pool.connection() as conn:
            return await tasks.read_progress(conn, id)

    async def stats(self) -> list[QueueStats]:
        """Counts by queue, in name order."""
        async with self._pool.connection() as conn:
            return await tasks.stats(conn)

    async def workers(self) -> list[WorkerRow]:
        """The workers that live, the newest first."""
        from qw.store import workers

        async with self._pool.connection() as conn:
            return await workers.living(conn)

    async def wait(self, ids: Sequence[UUID], *, timeout: timedelta | None = None) -> list[Task]:
        """The tasks once all of them are final. Raises NotFound, and TimedOut naming what is not final."""
        async with self._pool.connection() as conn:
            known = {task.id for task in await tasks.get(conn, ids)}
        if missing := [id for id in ids if id not in known]:
            raise NotFound(f"task {missing[0]} does not exist")
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        left, pause = set(ids), FIRST_PAUSE
        while left:
            async with self._pool.connection() as conn:
                left -= (await tasks.finals(conn, list(left))).keys()
            if left:
                _check_deadline(deadline, f"{len(left)} of {len(ids)} tasks are not final, among them {min(left)}")
                await asyncio.sleep(pause)
                pause = min(pause * 1.3, LONGEST_PAUSE)
        async with self._pool.connection() as conn:
            return await tasks.get(conn, ids)

    @overload
    async def result(self, id: UUID, type: None = None, *, timeout: timedelta | None = None) -> Json: ...
    @overload
    async def result(self, id: UUID, type: type[T], *, timeout: timedelta | None = None) -> T: ...
    @overload
    async def result(self, id: UUID, type: object, *, timeout: timedelta | None = None) -> Any: ...
    async def result(self, id: UUID, type: Any = None, *, timeout: timedelta | None = None) -> Any:
        """Wait for the task and return its result, as a value of *type* where that is given.

        Raise TaskFailed, TaskCancelled, NotFound, TimedOut after *timeout*, Invalid for a result that is no *type*.
        """
        from qw.client.results import result_of

        return result_of(await self.wait([id], timeout=timeout), id, type)

    # -- repaired

    async def cancel(self, ids: Sequence[UUID], *, running: bool = False, reason: str = "cancelled") -> dict[UUID, str]:
        """Cancel what waits; with *running* also ask what runs to stop. Says by id what happened, see `Answer`."""
        return await self._in_batches(ids, lambda c, some: tasks.cancel(c, some, running=running, reason=reason))

    async def retry(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Run failed, cancelled and retrying tasks again, now, with a fresh budget. Says by id what happened."""
        return await self._in_batches(ids, tasks.retry)

    async def _in_batches(self, ids: Sequence[UUID], act: Any) -> dict[UUID, str]:
        answers: dict[UUID, str] = {}
        ordered = sorted(set(ids))
        for start in range(0, len(ordered), ID_BATCH):
            async with self.operating() as conn:
                answers |= await act(conn, ordered[start : start + ID_BATCH])
        return answers

    async def compensate(self, id: UUID, *, reason: str = "", idempotency_key: str | None = None) -> UUID:
        """Enqueue the undoing of a task: the action that its type declares, for instance voiding. Returns its id.

        Whatever became of the task, and even if it was undone before; `qw.client.admin.compensate` is careful.
        """
        raise_faults(storable_faults(reason, "reason"))
        raise_faults(iter(key_faults("idempotency_key", idempotency_key)))
        async with self.operating() as conn:
            done = await tasks.compensate(conn, [id], reason=reason, anew=True, key=idempotency_key)
        _, new = done[id]
        if new is None:
            raise NotFound(f"task {id} does not exist")
        return new

    # -- workflows

    async def keep_workflow(self, workflow: Workflow) -> None:
        """Store a definition as the newest version; runs that started keep theirs."""
        from qw.store import runs

        async with self.operating() as conn:
            await runs.keep_workflow(conn, workflow.name, workflow.document)

    async def workflows(self) -> list[StoredWorkflow]:
        """The stored workflows, in name order."""
        from qw.store import runs

        async with self._pool.connection() as conn:
            return await runs.workflows(conn)

    async def workflow(self, name: str) -> StoredWorkflow:
        from qw.store import runs

        async with self._pool.connection() as conn:
            found = await runs.workflows(conn, name)
            known = [] if found else [workflow.name for workflow in await runs.workflows(conn)]
        if not found:
            raise NotFound(f"there is no workflow {name!r}{among(name, known)}")
        return found[0]

    async def start_workflow(
        self,
        name: str,
        input: JsonObject | None = None,
        *,
        run_at: datetime | None = None,
        filed_under: UUID | None = None,
        id: UUID | None = None,
        idempotency_key: str | None = None,
    ) -> UUID:
        """Start a run of the newest version; its first tasks exist when this returns.

        Safe to repeat by *id* or *idempotency_key*, which raises Conflict when workflow or input are others.

        The first tasks wait until *run_at*. *filed_under*: the workflow that the run is shown under, if not its own.
        """
        from qw.engine.start import start_run

        async with self._pool.connection() as conn, conn.transaction():
            return await start_run(
                conn,
                id or new_id(),
                name,
                {} if input is None else input,
                run_at=run_at,
                filed_under=filed_under,
                idempotency_key=idempotency_key,
            )

    async def run(self, id: UUID) -> RunDetails:
        """A run with its steps."""
        from qw.store import runs

        async with self._pool.connection() as conn:
            found = await runs.get(conn, [id])
            if not found:
                raise NotFound(f"run {id} does not exist")
            return RunDetails(run=found[0], steps=await runs.steps(conn, [id]))

    async def runs(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | None = None,
        limit: int = 100,
        before: UUID = LAST_ID,
    ) -> list[StoredRun]:
        """Matching runs, the newest first."""
        from qw.store import runs

        async with self._pool.connection() as conn:
            ids = await runs.find(conn, workflow=workflow, status=status, limit=min(limit, 1000), before=before)
            return await runs.get(conn, ids)

    async def cancel_run(self, id: UUID, *, by: str | None = None) -> None:
        """Ask for the end of a run: nothing new starts, what runs is asked to stop. *by* is kept with the run."""
        from qw.store import runs

        async with self.operating() as conn:
            asked = await runs.cancel(conn, id, by=by)
        if not asked:  # the connection is given back first: a command has only one
            status = (await self.run(id)).run.status
            raise Conflict(f"run {id} is {status}; only a run that goes on can be cancelled")

    async def wait_run(self, id: UUID, *, timeout: timedelta | None = None) -> RunDetails:
        """The run once it is final."""
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        pause = FIRST_PAUSE
        while not (run := await self.run(id)).run.status.is_final:
            _check_deadline(deadline, f"run {id} is {run.run.status}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, LONGEST_PAUSE)
        return run

    # -- inside

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of this client's, in autocommit mode: for `enqueue` within a transaction of the caller's."""
        async with self._pool.connection() as conn:
            yield conn

    @asynccontextmanager
    async def operating(self) -> AsyncIterator[Connection]:
        """The same for what takes the right to operate. Raise LacksRight where this role has it not."""
        async with as_operator(self._pool) as conn:
            yield conn

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection for several looks at one and the same moment; it writes nothing."""
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("set transaction isolation level repeatable read, read only")
            yield conn

    @asynccontextmanager
    async def _connection(self, conn: Connection | None) -> AsyncIterator[Connection]:
        if conn is None:
            async with self._pool.connection() as own:
                yield own
        else:
            with translated():
                yield conn


def explain(id: UUID, verb: str, answer: str) -> Conflict | NotFound | None:
    """The error for an answer of `Client.cancel` or `Client.retry` that is not what was asked for."""
    if answer in ("cancelled", "asked", "retried"):
        return None
    if answer == "missing":
        return NotFound(f"task {id} does not exist")
    if answer == "key_taken":
        return Conflict(f"task {id} cannot be retried: its unique key is held by another task")
    if answer == "left_behind":
        return Conflict(
            f"task {id} cannot be retried: its run was retried since, and what the task undoes stands again"
        )
    state = answer.removeprefix("was_")
    right = {
        "cancel": "only pending and retrying tasks can be cancelled; a processing one when you ask for it (--running)",
        "retry": "only failed, cancelled and retrying tasks can be retried",
    }[verb]
    return Conflict(f"task {id} is {state}; {right}")


async def _enqueue_replacing(conn: Connection, task: NewTask) -> UUID:
    """Store *task* in the place of a waiting holder of its unique key: both that and the cancellation, or neither."""
    async with conn.transaction():
        try:
            with translated():
                async with conn.transaction():
                    return await tasks.enqueue_keyed(conn, task, "error")
        except Conflict as conflict:
            if conflict.holder is None:
                raise
            await tasks.cancel(conn, [conflict.holder], running=False, reason=f"replaced by {task.id}")
        return await tasks.enqueue_keyed(conn, task, "error")


async def _the_task(conn: Connection, id: UUID) -> Task:
    found = await tasks.get(conn, [id])
    if not found:
        raise NotFound(f"task {id} does not exist")
    return found[0]


def _check_deadline(deadline: float | None, state: str) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimedOut(f"timed out waiting: {state}")


__all__ = ["COPY_BATCH", "Client", "Enqueued", "Filter", "RunDetails", "Status", "Task", "explain"]
