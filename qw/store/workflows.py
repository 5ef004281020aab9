"""Workflows by id: create, list, update, delete; and their tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from qw import sql
from qw.core.task import FILED_UNDER, Task
from qw.core.task.payload import JsonObject
from qw.core.workflow.run import RunStatus
from qw.store.connection import Connection, query
from qw.store.tasks import LAST_ID, Filter

_SQL = sql.statements("workflow")
_CUSTOMER = sql.statements("customer")


@dataclass(frozen=True, kw_only=True)
class FiledWorkflow:
    """A workflow with its newest version. ``status`` and ``error``: those of its latest run, if any."""

    id: UUID
    name: str
    title: str
    is_active: bool
    document: JsonObject
    created_at: datetime
    updated_at: datetime
    status: RunStatus | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that is not final. ``begun``: the number of its steps that have started."""

    id: UUID
    version: int
    begun: int


@dataclass(frozen=True, kw_only=True)
class CustomerTask:
    id: UUID
    type: str
    status: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class CustomerCounts:
    """Counts of tasks by the id of their run or workflow, or ``standalone``.

    ``is_open``: one of the runs is not final, so more tasks may follow.
    """

    filed_under: str
    total: int
    completed: int
    failed: int
    pending: int
    processing: int
    is_open: bool


async def create(conn: Connection, id: UUID, *, name: str, title: str, is_active: bool) -> bool:
    """Create a workflow without a version. Return False if the name is taken."""
    params = {"id": id, "name": name, "title": title, "is_active": is_active}
    return await (await query(conn, _SQL["create"], params)).fetchone() is not None


async def find(
    conn: Connection,
    *,
    ids: Sequence[UUID] | None = None,
    is_active: bool | None = None,
    before: UUID = LAST_ID,
    limit: int = 100,
) -> list[FiledWorkflow]:
    """Return workflows, newest first; with *ids*, only those."""
    params = {"ids": None if ids is None else list(ids), "is_active": is_active, "before": before, "limit": limit}
    async with conn.cursor(row_factory=class_row(FiledWorkflow)) as cursor:
        await cursor.execute(_SQL["find"], params)
        return [
            replace(workflow, status=RunStatus(workflow.status) if workflow.status else None)
            for workflow in await cursor.fetchall()
        ]


async def count(conn: Connection, *, is_active: bool | None = None) -> int:
    row = await (await query(conn, _SQL["count"], {"is_active": is_active})).fetchone()
    return row[0] if row else 0


async def update(conn: Connection, id: UUID, *, title: str | None, is_active: bool | None) -> str | None:
    """Update what is not None. Return the name of the workflow; None if it does not exist."""
    row = await (await query(conn, _SQL["update"], {"id": id, "title": title, "is_active": is_active})).fetchone()
    return row[0] if row else None


async def delete(conn: Connection, id: UUID) -> bool:
    """Delete a workflow; its runs continue. Return False if it does not exist."""
    return await (await query(conn, _SQL["delete"], {"id": id})).fetchone() is not None


async def file_run(conn: Connection, run: UUID, workflow: UUID) -> None:
    """List *run* under *workflow* instead of its own."""
    await query(conn, _SQL["file_run"], {"run": run, "workflow": workflow})


async def filed_under(conn: Connection, tasks: Sequence[Task]) -> Mapping[UUID, UUID]:
    """Return the workflow that each of *tasks* belongs to, by task; tasks without one are left out."""
    runs = {task.run_id for task in tasks if task.run_id}
    of_run: dict[UUID, UUID] = {}
    if runs:
        of_run = dict(await (await query(conn, _SQL["of_runs"], {"runs": list(runs)})).fetchall())
    by_task = {task.id: of_run.get(task.run_id) if task.run_id else _named(task) for task in tasks}
    return {task: workflow for task, workflow in by_task.items() if workflow}


def _named(task: Task) -> UUID | None:
    named = (task.headers or {}).get(FILED_UNDER)
    return UUID(named) if named else None


async def open_runs(conn: Connection, workflow: UUID) -> list[OpenRun]:
    """Return the newest 1,000 runs of a workflow that are not final."""
    async with conn.cursor(row_factory=class_row(OpenRun)) as cursor:
        await cursor.execute(_SQL["open_runs"], {"workflow": workflow})
        return await cursor.fetchall()


async def find_tasks(
    conn: Connection, workflow: UUID, match: Filter, *, limit: int, before: UUID = LAST_ID
) -> list[UUID]:
    """Return ids of matching tasks under *workflow*, newest first."""
    rows = await (await query(conn, _SQL["tasks"], _params(workflow, match, limit, before))).fetchall()
    return [row[0] for row in rows]


async def count_tasks(conn: Connection, workflow: UUID, match: Filter, *, limit: int) -> int:
    """Return the number of tasks that `find_tasks` would find."""
    statement = f"select count(*) from ({_SQL['tasks']}) found"  # noqa: S608 - all of it is ours
    row = await (await query(conn, statement, _params(workflow, match, limit, LAST_ID))).fetchone()
    return row[0] if row else 0


def _params(workflow: UUID, match: Filter, limit: int, before: UUID) -> dict[str, object]:
    return {
        "workflow": workflow,
        "type": match.type,
        "queue": match.queue,
        "since": match.since,
        "until": match.until,
        "status": match.status and match.status.value,
        "before": before,
        "limit": limit,
    }


async def of_customer(conn: Connection, customer: str, *, limit: int) -> list[CustomerTask]:
    """Return the newest tasks of a customer, including all tasks of their runs."""
    async with conn.cursor(row_factory=class_row(CustomerTask)) as cursor:
        await cursor.execute(_CUSTOMER["tasks"], {"customer": customer, "limit": limit})
        return await cursor.fetchall()


async def customer_counts(conn: Connection, customer: str) -> list[CustomerCounts]:
    """Return the counts of the tasks that `of_customer` would find."""
    async with conn.cursor(row_factory=class_row(CustomerCounts)) as cursor:
        await cursor.execute(_CUSTOMER["status"], {"customer": customer})
        return await cursor.fetchall()
