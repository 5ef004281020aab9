"""`Client.tasks`: get, find, count, cancel, retry and compensate tasks; attempts and logs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from qw.client.acting import audited, counted
from qw.client.connections import Connections, Namespace, check_limit
from qw.client.short_ids import IdKind, resolve, unique_length
from qw.core.errors import Conflict, NotFound
from qw.core.rights import Right
from qw.core.task import FILED_UNDER, Attempt, NewTask, Status, Task, check_new, key_faults
from qw.core.task.answer import Answers, done_among
from qw.core.task.checkpoint import Checkpoint
from qw.core.task.known_types import KnownTypes
from qw.core.task.payload import Json, JsonObject, raise_faults, storable_faults
from qw.store import checkpoints, tasks, types
from qw.store.connection import Connection
from qw.store.grants import require
from qw.store.tasks import LAST_ID, Filter, LogLine

if TYPE_CHECKING:
    from qw.client.stacks import TaskStack
    from qw.core.why import Reason
    from qw.store.workflows import CustomerCounts, CustomerTask

# Workflow modules are imported inside the methods that need them: `qw enqueue` uses this module and must start fast.

COUNTED = 10_000  # totals are exact up to this number
ID_BATCH = 1000
LOG_BATCH = 10_000  # log lines that one transaction deletes
LOOK_PAGE = 20_000  # rows that one statement of `about` reads
MOST = 1000  # maximum tasks in one answer


@dataclass(frozen=True, kw_only=True)
class Total:
    """A number of matching tasks. Exact up to 10,000; above that, an estimate if ``is_estimate``."""

    count: int
    is_estimate: bool = False


_Act = Callable[[Connection, Sequence[UUID]], Awaitable[Answers]]


class Tasks(Namespace):
    """Reads and changes tasks. Bulk methods return an `Answer` for each task, by id."""

    async def get(self, id: UUID) -> Task:
        """Return the current state of a task. Raise NotFound."""
        async with self._db.connection() as conn:
            return await _the_task(conn, id)

    async def find(
        self, match: Filter | None = None, *, under: UUID | None = None, limit: int = 100, before: UUID = LAST_ID
    ) -> list[Task]:
        """Return matching tasks, newest first, at most 1,000. For the next page pass the last id as *before*.

        *under*: only tasks of the workflow with that id.
        """
        match = match or Filter()
        check_limit(limit, MOST)
        async with self._db.connection() as conn:
            if under is None:
                ids = await tasks.find(conn, match, limit=limit, before=before)
            else:
                from qw.store import workflows

                ids = await workflows.find_tasks(conn, under, match, limit=limit, before=before)
            matching = await tasks.get(conn, ids)
        return [task for task in matching if match.status in (None, task.status)]

    async def find_ids(self, match: Filter | None = None, *, limit: int = 1000, before: UUID = LAST_ID) -> list[UUID]:
        """Return ids of matching tasks, newest first. For the next page pass the last id as *before*."""
        async with self._db.connection() as conn:
            return await tasks.find(conn, match or Filter(), limit=limit, before=before)

    async def resolve(self, text: str, *, path: str = "id") -> UUID:
        """Return the id of the only task whose id starts with *text* (at least four hexadecimal digits)."""
        return await resolve(self._db, text, IdKind.TASK, path=path)

    async def resolve_any(self, text: str) -> UUID:
        """As `resolve`, for a task or a run."""
        return await resolve(self._db, text, IdKind.ANY)

    async def unique_length(self, ids: Sequence[UUID]) -> int:
        """Return the length of prefix that makes each of *ids* unique among all tasks and runs."""
        return await unique_length(self._db, ids)

    async def attempts(self, id: UUID) -> list[Attempt]:
        """Return earlier attempts (those that did not give the final result), oldest first. Raise NotFound."""
        async with self._db.connection() as conn:
            await _the_task(conn, id)
            return await tasks.attempts(conn, id)

    async def logs(self, id: UUID, *, after: int = 0) -> list[LogLine]:
        """Return log lines of the task with an id greater than *after*, oldest first."""
        async with self._db.connection() as conn:
            await _the_task(conn, id)
            return await tasks.read_logs(conn, id, after=after)

    async def progress(self, id: UUID) -> tuple[float, str] | None:
        """Return the last progress report: fraction from 0 to 1, and message; None if there is none."""
        async with self._db.connection() as conn:
            return await tasks.read_progress(conn, id)

    async def checkpoints(self, id: UUID) -> list[Checkpoint]:
        """Return the stored steps and the waits of the task's handler, oldest first. Raise NotFound."""
        async with self._db.connection() as conn:
            await _the_task(conn, id)
            return await checkpoints.of_task(conn, id)

    @audited("task signal")
    async def signal(self, id: UUID, name: str, payload: Json = None, *, by: str | None = None) -> None:
        """Send a signal to a task, for `Context.wait_signal`. The signal is kept until the handler waits for it.

        Raise NotFound, Conflict if the task is final, or Invalid for a wrong name or payload.
        """
        raise_faults(storable_faults(payload, "payload"))
        raise_faults(storable_faults(by, "by"))
        async with self._db.operating() as conn:
            await checkpoints.signal(conn, id, name, payload, by=by)

    async def stack(self, id: UUID) -> TaskStack:
        """Return what a running task is doing now, as its worker reports; for an ended task, the last report.

        Raise NotFound; Conflict if there is no report.
        """
        from qw.client.stacks import stack_of

        return await stack_of(self._db, id)

    async def types(self) -> list[str]:
        """Return all types that a worker has registered."""
        async with self._db.connection() as conn:
            return await types.names(conn)

    async def known_types(self) -> KnownTypes:
        """Return all registered types with the schemas of their payloads, to check new tasks against."""
        async with self._db.connection() as conn:
            return KnownTypes(await types.schemas(conn))

    async def why(self, id: UUID) -> list[Reason]:
        """Return why a task does not run or a run does not progress, main reason first. Raise NotFound."""
        from qw.client.why import why_waits

        return await why_waits(self._db, id)

    @audited("task cancel")
    async def cancel(self, ids: Sequence[UUID], *, running: bool = False, reason: str = "cancelled") -> Answers:
        """Cancel waiting tasks; *running* also asks running ones to stop. See `Answer`."""
        return await self._in_batches(ids, lambda c, some: tasks.cancel(c, some, running=running, reason=reason))

    @audited("task retry")
    async def retry(self, ids: Sequence[UUID]) -> Answers:
        """Retry failed, cancelled and retrying tasks now, with a new retry budget. See `Answer`."""
        return await self._in_batches(ids, tasks.retry)

    @audited("task edit")
    async def edit(
        self,
        id: UUID,
        *,
        queue: str | None = None,
        priority: int | None = None,
        payload: JsonObject | None = None,
        run_at: datetime | None = None,
        front: bool = False,
    ) -> None:
        """Change a waiting task. Options that are None change nothing. *front*: before all of its queue and priority.

        Raise NotFound; Conflict if the task runs or is final, or if *queue* or *payload* are given for a step of a
        run.
        """
        check_new(NewTask(type="noop", id=id, queue=queue or "x", priority=priority or 0, payload=payload or {}))
        async with self._db.operating() as conn:
            answer = await tasks.edit(
                conn, id, queue=queue, priority=priority, payload=payload, run_at=run_at, front=front
            )
            if answer == "missing":
                raise NotFound(f"task {id} does not exist")
            if answer == "step":
                raise Conflict(f"task {id} is a step of a run; queue and payload of steps are set in the workflow")
            if answer != "edited":
                raise Conflict(f"task {id} is {answer}; only a waiting task can be changed")

    @audited("task forget")
    async def forget(self, ids: Sequence[UUID]) -> Answers:
        """Erase payload, result, errors, logs and events of finished tasks, and of runs with everything below them.

        The rows stay, with type, queue, status and times. Cannot be undone. See `Answer`.
        """
        return await self._in_batches(ids, tasks.erase)

    @audited("task remove")
    async def remove(self, ids: Sequence[UUID]) -> Answers:
        """Delete finished tasks with their logs and attempts. Tasks of a run are kept until their run is deleted.

        Log lines are deleted first, in separate transactions, because there may be millions. Cannot be undone.
        """
        ordered = sorted(set(ids))
        async with self._db.connection() as conn:  # separate from the transaction that is audited
            await require(conn, Right.OPERATE)
            for start in range(0, len(ordered), ID_BATCH):
                while await tasks.remove_logs(conn, ordered[start : start + ID_BATCH], limit=LOG_BATCH):
                    pass
        return await self._in_batches(ordered, tasks.remove)

    async def about(self, path: Sequence[str], value: str) -> list[UUID]:
        """Return the ids of runs whose input, then of tasks whose payload has the text *value* at *path*.

        Reads all runs and tasks, a page at a time.
        """
        from qw.store import runs

        matching: list[UUID] = []
        for look in (runs.with_input, tasks.with_payload):
            last: UUID | None = UUID(int=0)
            while last is not None:
                async with self._db.connection() as conn:
                    page, last = await look(conn, path, value, after=last, limit=LOOK_PAGE)
                matching += page
        return matching

    async def _in_batches(self, ids: Sequence[UUID], act: _Act) -> Answers:
        answers: Answers = {}
        ordered = sorted(set(ids))
        for start in range(0, len(ordered), ID_BATCH):
            async with self._db.operating() as conn:
                done = await act(conn, ordered[start : start + ID_BATCH])
                counted(done_among(done))
            answers |= done
        return answers

    @audited("task compensate")
    async def compensate_again(self, id: UUID, *, reason: str = "", idempotency_key: str | None = None) -> UUID:
        """Enqueue a compensation of a task, whatever its status, even if compensated before. Return the new task's id.

        Each call enqueues another compensation, unless its *idempotency_key* was used before.
        """
        raise_faults(storable_faults(reason, "reason"))
        raise_faults(iter(key_faults("idempotency_key", idempotency_key)))
        async with self._db.operating() as conn:
            done = await tasks.compensate(conn, [id], reason=reason, anew=True, key=idempotency_key)
            new = done[id].other
            if new is None:
                raise NotFound(f"task {id} does not exist")
        return new

    async def count(self, match: Filter | None = None, *, under: UUID | None = None) -> Total:
        """Return the number of matching tasks. Always exact without a filter, or by status and queue only."""
        match = match or Filter()
        if under is None and match == Filter(status=match.status, queue=match.queue):
            return Total(count=await _tallied(self._db, match))
        async with self._db.connection() as conn:
            if under is not None:
                from qw.store import workflows

                count = await workflows.count_tasks(conn, under, match, limit=COUNTED + 1)
                return Total(count=count, is_estimate=count > COUNTED)
            count = await tasks.count(conn, match, limit=COUNTED + 1)
            if count <= COUNTED:
                return Total(count=count)
            return Total(count=max(count, await tasks.estimate(conn, match)), is_estimate=True)

    async def workflow_ids(self, of_tasks: Sequence[Task]) -> Mapping[UUID, UUID]:
        """Return the id of the workflow that each task belongs to, by task id."""
        from qw.store import workflows

        if not any(task.run_id or FILED_UNDER in (task.headers or {}) for task in of_tasks):
            return {}
        async with self._db.connection() as conn:
            return await workflows.filed_under(conn, of_tasks)

    async def of_customer(self, customer: str) -> list[CustomerTask]:
        """Return the newest 1,000 tasks of a customer, including all tasks of their runs."""
        from qw.store import workflows

        async with self._db.connection() as conn:
            return await workflows.of_customer(conn, customer, limit=MOST)

    async def customer_counts(self, customer: str) -> list[CustomerCounts]:
        """Return the counts of the tasks of `of_customer`, by run."""
        from qw.store import workflows

        async with self._db.connection() as conn:
            return await workflows.customer_counts(conn, customer)

    async def scheduled(self, *, limit: int = 1000) -> list[Task]:
        """Return tasks with a future start time, earliest first."""
        from qw.store import overview

        async with self._db.connection() as conn:
            waiting = await tasks.get(conn, await overview.scheduled(conn, limit=limit))
        return [task for task in waiting if task.status is Status.PENDING and task.run_at]

    async def last_errors(self, of_tasks: Sequence[Task]) -> dict[UUID, str]:
        """Return the error of the last failed attempt of each task that is not final."""
        from qw.store import overview

        waiting = [task.id for task in of_tasks if not task.status.is_final and (task.retries or task.crashes)]
        if not waiting:
            return {}
        async with self._db.connection() as conn:
            return await overview.last_errors(conn, waiting)

    async def first_logs(self, ids: Sequence[UUID], *, limit: int = 100) -> dict[UUID, list[LogLine]]:
        """Return the first *limit* log lines of each task."""
        from qw.store import overview

        async with self._db.connection() as conn:
            return await overview.logs(conn, ids, limit=limit)

    @audited("task requeue")
    async def requeue(self, ids: Sequence[UUID]) -> Answers:
        """Enqueue copies of finished tasks, in one transaction. Idempotent. See `Answer`."""
        async with self._db.operating() as conn:
            answers = await tasks.requeue(conn, ids)
            counted(done_among(answers))
        return answers

    @audited("task compensate")
    async def compensate(self, ids: Sequence[UUID], *, reason: str = "") -> Answers:
        """Enqueue compensations of completed tasks: the action that each type declares, such as voiding an invoice.

        All in one transaction. Idempotent: a task is compensated once. See `Answer`.
        """
        raise_faults(storable_faults(reason, "reason"))
        async with self._db.operating() as conn:
            answers = await tasks.compensate(conn, ids, reason=reason)
            counted(done_among(answers))
        return answers


async def _tallied(db: Connections, match: Filter) -> int:
    """Return the number of tasks by status, queue or both, from the maintained counters."""
    async with db.connection() as conn:
        stats = [stat for stat in await tasks.stats(conn) if match.queue in (None, stat.queue)]
    return sum(stat.total if match.status is None else getattr(stat, match.status) for stat in stats)


async def _the_task(conn: Connection, id: UUID) -> Task:
    stored = await tasks.get(conn, [id])
    if not stored:
        raise NotFound(f"task {id} does not exist")
    return stored[0]
