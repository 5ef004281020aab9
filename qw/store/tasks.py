"""Tasks: enqueue, read, list, cancel, retry, count, prune. Operations of workers are in `claims`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from qw import sql
from qw.core.errors import Conflict, Denied
from qw.core.task import Attempt, NewTask, Status, Task
from qw.core.task.answer import Answer, AnswerCode, Answers
from qw.core.task.payload import Json, JsonObject
from qw.store import arrays, copying, parameters
from qw.store.connection import Connection, execute, query, to_json
from qw.store.grants import access
from qw.store.ids import check_ids

_SQL = sql.statements("task")
_COPIED = copying.columns_of(_SQL["copy_tasks"])
_COPY_FROM = 50  # rows; for fewer, one statement is faster than three COPYs in a transaction
LAST_ID = UUID(int=2**128 - 1)
MOST_FAILURES = 1000  # failed tasks that `failures` reads


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A filter for tasks: a task must match all fields that are not None.

    ``customer`` is the ``customerId`` of the payload, ``error`` a substring of the error text. ``since`` (inclusive)
    and ``until`` (exclusive) limit the creation time. ``suspended``: only pending tasks whose handler waits for a
    time, a signal or a task.
    """

    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    run_id: UUID | None = None
    customer: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    suspended: bool = False


@dataclass(frozen=True, kw_only=True)
class LogLine:
    id: int
    attempt: int
    at: datetime
    level: str
    message: str
    raw: bytes | None = None  # the exact output of a command, if it is not the message and a newline


@dataclass(frozen=True, kw_only=True)
class QueueStats:
    """Tasks of one queue by status. ``retrying`` is exact to 10,000; ``pending`` includes tasks with a future start.

    ``enqueued``: tasks ever enqueued, including deleted ones.
    """

    queue: str
    pending: int
    processing: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    enqueued: int

    @property
    def total(self) -> int:
        return self.pending + self.processing + self.retrying + self.completed + self.failed + self.cancelled


@dataclass(frozen=True, kw_only=True)
class Failures:
    """The number of failed tasks of one type, with the newest of them."""

    type: str
    failed: int
    last_at: datetime
    last_error: str
    last_id: UUID


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The result of storing tasks. ``new``: ids stored. ``others``: by id, why an existing task is not the same."""

    new: set[UUID]
    others: dict[UUID, str]


async def enqueue(conn: Connection, tasks: Sequence[NewTask]) -> set[UUID]:
    """Store tasks without keys in one statement, in order. Return the new ids.

    Raise Conflict for an id that exists with another type, queue or payload; the new tasks are stored nevertheless.
    """
    stored = await store(conn, tasks)
    for id, why in stored.others.items():
        raise Conflict(why, holder=id)
    return stored.new


async def store(conn: Connection, tasks: Sequence[NewTask]) -> Stored:
    """Like `enqueue`, but return conflicts instead of raising them."""
    check_ids(task.id for task in tasks)
    if not (await access(conn)).writes:
        return Stored(new={id for id, is_new in await _enqueue_checked(conn, tasks, "error") if is_new}, others={})
    if len(tasks) == 1:
        cursor = await execute(conn, _SQL["enqueue_one"], parameters.scalars(tasks[0]))
    else:
        cursor = await execute(conn, _SQL["enqueue"], parameters.arrays_of(_first_of_each_id(tasks)))
    new = {row[0] for row in await cursor.fetchall()}
    known = [task for task in tasks if task.id not in new]
    others = await _others(conn, known) if known else {}
    if len(tasks) > len(new) + len(known):
        others |= _twice(tasks)
    return Stored(new=new, others=others)


async def _others(conn: Connection, known: Sequence[NewTask]) -> dict[UUID, str]:
    """Return, by id, how the existing task differs, for those of *known* that are not the same task."""
    return {id: _other(id, type, queue) for id, is_same, type, queue in await _existing(conn, known) if not is_same}


async def _existing(conn: Connection, tasks: Sequence[NewTask]) -> list[tuple[UUID, bool, str, str]]:
    """Return the existing tasks with ids of *tasks*: id, whether it is the same task, type and queue."""
    params = {
        "ids": arrays.uuids(t.id for t in tasks),
        "types": arrays.texts(t.type for t in tasks),
        "queues": arrays.texts(t.queue for t in tasks),
        "payloads": arrays.texts(to_json(t.payload) for t in tasks),
    }
    return cast("list[tuple[UUID, bool, str, str]]", await (await execute(conn, _SQL["existing"], params)).fetchall())


def _first_of_each_id(tasks: Sequence[NewTask]) -> list[NewTask]:
    return list({task.id: task for task in reversed(tasks)}.values())[::-1]


def _twice(tasks: Sequence[NewTask]) -> dict[UUID, str]:
    """Return the ids that two different tasks in *tasks* share."""
    first: dict[UUID, NewTask] = {}
    return {
        task.id: _other(task.id, first_task.type, first_task.queue)
        for task in tasks
        if (first_task := first.setdefault(task.id, task)) is not task
        and (first_task.type, first_task.queue, first_task.payload) != (task.type, task.queue, task.payload)
    }


def _other(id: UUID, type: str, queue: str) -> str:
    return f"task {id} exists with another type, queue or payload: it is {type} in queue {queue}"


async def enqueue_keyed(conn: Connection, task: NewTask, on_conflict: str) -> UUID:
    """Store one task with keys. Return its id, or the id of the task that holds a key."""
    check_ids([task.id])
    if not (await access(conn)).writes:
        [(id, _)] = await _enqueue_checked(conn, [task], on_conflict)
        return id
    params = parameters.scalars(task) | {"on_conflict": on_conflict}
    row = await (await execute(conn, _SQL["enqueue_keyed"], params)).fetchone()
    assert row is not None
    return cast("UUID", row[0])


async def enqueue_keyed_many(conn: Connection, tasks: Sequence[NewTask]) -> int:
    """Store tasks with a unique or idempotency key, in one transaction. Return the number of new tasks.

    A task is skipped if its unique key is taken, or if its id or idempotency key belongs to an equal task. Raise
    Conflict as `enqueue_keyed` does if that task differs.
    """
    check_ids(task.id for task in tasks)
    if not (await access(conn)).writes:
        return sum(is_new for _, is_new in await _enqueue_checked(conn, tasks, "skip"))
    first = _first_of_each_id(tasks)
    async with conn.transaction():
        params = parameters.arrays_of(first, keyed=True)
        rows = await (await execute(conn, _SQL["enqueue_keyed_many"], params)).fetchall()
        new = {row[0] for row in rows}
        left = [task for task in tasks if task.id not in new]
        await _settle_left(conn, left)
    return len(new)


async def _settle_left(conn: Connection, left: Sequence[NewTask]) -> None:
    """Enqueue, one by one, the tasks that were not stored for reasons other than a taken unique key."""
    params = {"ids": [task.id for task in left], "idempotency_keys": [task.idempotency_key for task in left]}
    if any(task.idempotency_key for task in left):
        await query(conn, _SQL["release_keys"], params)
    known = {id for id, *_ in await _existing(conn, left)} if left else set()
    for task in left:
        if task.idempotency_key or task.id in known:
            await enqueue_keyed(conn, task, "skip")


async def enqueue_many(conn: Connection, tasks: Sequence[NewTask]) -> set[UUID]:
    """Store many tasks without keys in one transaction, by COPY, or by `enqueue` if an id exists.

    Raise Conflict as `enqueue` does.
    """
    if (
        not (await access(conn)).writes
        or len(tasks) < _COPY_FROM
        or any(task.run_id or task.parent_id for task in tasks)
    ):
        return await enqueue(conn, tasks)
    check_ids(task.id for task in tasks)
    try:
        async with conn.transaction():
            await _copy(conn, tasks)
    except psycopg.errors.UniqueViolation:
        return await enqueue(conn, tasks)
    return {task.id for task in tasks}


async def _enqueue_checked(conn: Connection, tasks: Sequence[NewTask], on_conflict: str) -> list[tuple[UUID, bool]]:
    """Like `enqueue`, through the SQL function for roles that may not write tables."""
    documents = [_document(task, on_conflict) for task in tasks]
    return cast(
        "list[tuple[UUID, bool]]",
        await (await query(conn, _SQL["enqueue_checked"], {"tasks": to_json(documents)})).fetchall(),
    )


def _document(task: NewTask, on_conflict: str) -> Json:
    if task.type == "command" and not task.payload.keys().isdisjoint(("argv", "run")):
        raise Denied("permission denied for function may_operate, which a task with a command of its own takes")
    return {**task.document(), "on_conflict": on_conflict}


async def _copy(conn: Connection, tasks: Sequence[NewTask]) -> None:
    now: datetime | None = None
    if any(task.run_at or task.delay for task in tasks):
        row = await (await conn.execute("select statement_timestamp()")).fetchone()
        now = row[0] if row else None
    due = {task.id: at for task in tasks if now and (at := _due(task, now)) > now}
    async with conn.cursor() as cursor:
        await copying.copy(cursor, _SQL["copy_tasks"], copying.task_rows(tasks, _COPIED))
        ready = tasks if not due else [t for t in tasks if t.id not in due]
        await copying.copy(cursor, _SQL["copy_ready"], copying.ready_rows(ready))
        if due:
            later = ((t, due[t.id]) for t in tasks if t.id in due)
            await copying.copy(cursor, _SQL["copy_scheduled"], copying.scheduled_rows(later))
    lanes = Counter((t.queue, t.priority) for t in tasks)
    params = {
        "queues": [queue for queue, _ in lanes],
        "priorities": [priority for _, priority in lanes],
        "counts": list(lanes.values()),
        "ids": arrays.uuids(task.id for task in tasks),
    }
    await execute(conn, _SQL["count_enqueued"], params)


def _due(task: NewTask, now: datetime) -> datetime:
    return task.run_at or now + (task.delay or timedelta(0))


async def get(conn: Connection, ids: Sequence[UUID]) -> list[Task]:
    """Return the existing tasks among *ids*, in the order of *ids*."""
    statement = "get" if (await access(conn)).reads else "get_own"
    rows = await (await query(conn, _SQL[statement], {"ids": list(ids)})).fetchall()
    tasks = {row[0]: _task(row) for row in rows}
    return [tasks[id] for id in ids if id in tasks]


def _task(row: tuple[Any, ...]) -> Task:
    task = Task(**dict(zip(_TASK_FIELDS, row, strict=True)))
    return replace(task, status=Status(task.status))


_TASK_FIELDS = [field.name for field in fields(Task)]


async def find(conn: Connection, match: Filter, *, limit: int = 100, before: UUID = LAST_ID) -> list[UUID]:
    """Return ids of matching tasks below *before*, newest first."""
    rows = await (await query(conn, _SQL[_finder(match)], _find_params(match, limit, before))).fetchall()
    return [row[0] for row in rows]


async def count(conn: Connection, match: Filter, *, limit: int) -> int:
    """Return the number of matching tasks, at most *limit*."""
    statement = f"select count(*) from ({_SQL[_finder(match)]}) found"  # noqa: S608 - all of it is ours
    row = await (await query(conn, statement, _find_params(match, limit, LAST_ID))).fetchone()
    return row[0] if row else 0


async def estimate(conn: Connection, match: Filter) -> int:
    """Return the planner's estimate of the number of matching tasks."""
    statement = f"explain (format json) {_SQL[_finder(match)]}"
    row = await (await conn.execute(statement, _find_params(match, None, LAST_ID), prepare=False)).fetchone()
    return int(row[0][0]["Plan"]["Plan Rows"]) if row else 0


def _find_params(match: Filter, limit: int | None, before: UUID) -> dict[str, Any]:
    return {
        "type": match.type,
        "queue": match.queue,
        "run_id": match.run_id,
        "customer": match.customer,
        "since": match.since,
        "until": match.until,
        "error": match.error,
        "before": before,
        "limit": limit,
        "status": match.status and match.status.value,
        "retrying": match.status is Status.RETRYING,
    }


def _finder(match: Filter) -> str:
    is_pending = match.status in (None, Status.PENDING)
    return "find_suspended" if match.suspended and is_pending else _FINDERS[match.status]


_FINDERS = {
    None: "find_any",
    Status.PENDING: "find_waiting",
    Status.RETRYING: "find_waiting",
    Status.PROCESSING: "find_running",
    Status.COMPLETED: "find_finished",
    Status.FAILED: "find_finished",
    Status.CANCELLED: "find_finished",
}


async def resolve(conn: Connection, digits: str) -> dict[UUID, bool]:
    """Return up to three tasks and three runs whose ids begin with the hex *digits*: by id, whether it is a run."""
    bounds = {"low": UUID(digits.ljust(32, "0")), "high": UUID(digits.ljust(32, "f"))}
    return dict(await (await query(conn, _SQL["resolve"], bounds)).fetchall())


async def neighbours(conn: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Return the ids of tasks and runs next to each of *ids* in id order."""
    return [row[0] for row in await (await query(conn, _SQL["neighbours"], {"ids": list(ids)})).fetchall()]


async def attempts(conn: Connection, id: UUID) -> list[Attempt]:
    """Return the attempts that did not end as the final result, oldest first."""
    async with conn.cursor(row_factory=class_row(Attempt)) as cursor:
        await cursor.execute(_SQL["attempts"], {"id": id})
        return await cursor.fetchall()


async def attempts_of(conn: Connection, ids: Sequence[UUID], *, limit: int) -> list[Attempt]:
    """Like `attempts`, for several tasks; if there are more than *limit*, the newest."""
    async with conn.cursor(row_factory=class_row(Attempt)) as cursor:
        await cursor.execute(_SQL["attempts_of"], {"ids": list(ids), "limit": limit})
        return await cursor.fetchall()


async def cancel(conn: Connection, ids: Sequence[UUID], *, running: bool, reason: str) -> Answers:
    """Request cancellation of *ids*; see qw.cancel_tasks."""
    params = {"ids": sorted(ids), "running": running, "reason": reason}
    return await _answers(conn, "cancel", params)


async def _answers(conn: Connection, statement: str, params: Mapping[str, Any]) -> Answers:
    rows = await (await query(conn, _SQL[statement], params)).fetchall()
    return {id: Answer(AnswerCode(code), *other) for id, code, *other in rows}


async def settle_cancels(conn: Connection) -> int:
    """Cancel tasks that changed state while their cancellation was requested. Return their number."""
    row = await (await execute(conn, _SQL["settle_cancels"])).fetchone()
    return row[0] if row else 0


async def retry(conn: Connection, ids: Sequence[UUID]) -> Answers:
    """Retry *ids*; see qw.retry_tasks."""
    return await _answers(conn, "retry", {"ids": sorted(ids)})


async def edit(
    conn: Connection,
    id: UUID,
    *,
    queue: str | None,
    priority: int | None,
    payload: JsonObject | None,
    run_at: datetime | None,
    front: bool,
) -> str:
    """Change a waiting task; None changes nothing. Return "edited", or why not (see qw.edit_task)."""
    params = {
        "id": id,
        "queue": queue,
        "priority": priority,
        "payload": to_json(payload),
        "run_at": run_at,
        "front": front,
    }
    row = await (await query(conn, _SQL["edit"], params)).fetchone()
    assert row is not None
    return str(row[0])


async def erase(conn: Connection, ids: Sequence[UUID]) -> Answers:
    """Erase the data of finished tasks and runs; see qw.forget."""
    return await _answers(conn, "erase", {"ids": sorted(ids)})


async def remove_logs(conn: Connection, ids: Sequence[UUID], *, limit: int) -> bool:
    """Delete up to *limit* log lines of tasks to be removed. Return whether there may be more. See qw.remove_logs."""
    row = await (await query(conn, _SQL["remove_logs"], {"ids": sorted(ids), "most": limit})).fetchone()
    return row is not None and row[0] >= limit


async def remove(conn: Connection, ids: Sequence[UUID]) -> Answers:
    """Delete finished tasks and everything that belongs to them; see qw.remove."""
    return await _answers(conn, "remove", {"ids": sorted(ids)})


async def with_payload(
    conn: Connection, path: Sequence[str], value: str, *, after: UUID, limit: int
) -> tuple[list[UUID], UUID | None]:
    """Read the next *limit* tasks. Return those with the text *value* at *path* of their payload, and the last id.

    The last id is None if there are no more tasks.
    """
    params = {"path": list(path), "value": value, "after": after, "limit": limit}
    row = await (await query(conn, _SQL["with_payload"], params)).fetchone()
    return (row[1], row[0]) if row else ([], None)


async def requeue(conn: Connection, ids: Sequence[UUID]) -> Answers:
    """Enqueue copies of finished tasks."""
    return await _answers(conn, "requeue", {"ids": sorted(ids)})


async def compensate(
    conn: Connection, ids: Sequence[UUID], *, reason: str, anew: bool = False, key: str | None = None
) -> Answers:
    """Enqueue compensations of completed tasks.

    With *anew*, whatever the task's status, and even if it was compensated before; once for each idempotency *key*.
    """
    params = {"ids": sorted(ids), "reason": reason, "anew": anew, "key": key}
    return await _answers(conn, "compensate", params)


async def failures(conn: Connection) -> list[Failures]:
    """Return the last day's failures by type, most frequent first, among the last MOST_FAILURES failed tasks."""
    async with conn.cursor(row_factory=class_row(Failures)) as cursor:
        await cursor.execute(_SQL["failures"], {"most": MOST_FAILURES})
        return await cursor.fetchall()


async def finals(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, Status]:
    """Return the status of those among *ids* that are final."""
    if not (await access(conn)).reads:
        return {task.id: task.status for task in await get(conn, ids) if task.status.is_final}
    rows = await (await query(conn, _SQL["final_statuses"], {"ids": list(ids)})).fetchall()
    return {id: Status(status) for id, status in rows}


async def stats(conn: Connection) -> list[QueueStats]:
    """Return task counts by queue, in name order."""
    async with conn.cursor(row_factory=class_row(QueueStats)) as cursor:
        await cursor.execute(_SQL["stats"])
        return await cursor.fetchall()


async def write_logs(conn: Connection, lines: Sequence[tuple[UUID, int, str, str, bytes | None]]) -> None:
    """Add lines (task, attempt, level, message, raw) in order."""
    ids, attempt_numbers, levels, messages, raws = (list(column) for column in zip(*lines, strict=True))
    params = {"ids": ids, "attempts": attempt_numbers, "levels": levels, "messages": messages}
    params["raws"] = raws
    await query(conn, _SQL["write_logs"], params)


async def read_logs(conn: Connection, id: UUID, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
    """Return lines of a task's log after the line with id *after*, oldest first."""
    statement = "read_logs" if (await access(conn)).reads else "read_own_logs"
    async with conn.cursor(row_factory=class_row(LogLine)) as cursor:
        await cursor.execute(_SQL[statement], {"id": id, "after": after, "limit": limit})
        return await cursor.fetchall()


async def write_progress(conn: Connection, id: UUID, fraction: float, message: str) -> None:
    await query(conn, _SQL["write_progress"], {"id": id, "fraction": fraction, "message": message})


async def read_progress(conn: Connection, id: UUID) -> tuple[float, str] | None:
    row = await (await query(conn, _SQL["read_progress"], {"id": id})).fetchone()
    return (row[0], row[1]) if row else None


async def past_retention(
    conn: Connection, status: Status, *, age: timedelta, after: UUID, limit: int
) -> tuple[list[UUID], UUID | None]:
    """Read the next *limit* candidates in id order. Return those of final *status* that finished before *age* ago.

    Also return the id to continue after; None: there are no more.
    """
    verb = "old_completed" if status is Status.COMPLETED else "old_failed"
    params = {"status": status, "age": age, "after": after, "limit": limit}
    rows = await (await query(conn, _SQL[verb], params)).fetchall()
    return [id for id, is_old in rows if is_old], rows[-1][0] if len(rows) == limit else None


async def prune_history(conn: Connection, ids: Sequence[UUID], *, limit: int) -> bool:
    """Delete log lines, attempts, checkpoints and signals of these tasks, up to *limit* rows of each kind.

    Return whether more rows may be left.
    """
    row = await (await query(conn, _SQL["prune_history"], {"ids": list(ids), "limit": limit})).fetchone()
    return row is not None and row[0] >= limit


async def prune(conn: Connection, ids: Sequence[UUID]) -> int:
    """Delete those of the tasks that are still finished; delete their history first. Return the number deleted."""
    row = await (await query(conn, _SQL["prune"], {"ids": list(ids)})).fetchone()
    return row[0] if row else 0


async def prune_keys(conn: Connection, *, age: timedelta, limit: int) -> int:
    """Delete up to *limit* idempotency keys older than *age*. Return the number deleted."""
    row = await (await query(conn, _SQL["prune_keys"], {"age": age, "limit": limit})).fetchone()
    return row[0] if row else 0


async def fold_tally(conn: Connection) -> int:
    """Replace the rows of the counters by their sums. Return the number of rows replaced."""
    row = await (await query(conn, _SQL["fold_tally"])).fetchone()
    return row[0] if row else 0
