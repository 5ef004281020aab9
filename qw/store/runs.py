"""Workflows and their runs: stored, started, read, and what the advancer decided about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import orjson
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from qw import sql
from qw.core.handling import Recorded
from qw.core.payload import Json, JsonObject
from qw.core.run import RunStatus, StepStatus
from qw.store.connection import Connection, query, to_json
from qw.store.tasks import LAST_ID

_SQL = sql.statements("run")


@dataclass(frozen=True, kw_only=True)
class StoredWorkflow:
    """A workflow as the database has it: its newest version."""

    id: UUID
    name: str
    is_active: bool
    document: JsonObject
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run, pinned to the version of its workflow that it started with."""

    id: UUID
    workflow: str
    workflow_id: UUID
    version: int
    status: RunStatus
    detail: str | None
    input: JsonObject
    output: Json
    error: str | None
    cancel_asked: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class StoredStep:
    """A step of a run. The ``task_…`` fields are those of its finished task, None while it is not final."""

    run_id: UUID
    step: str
    type: str
    status: StepStatus
    task_id: UUID | None
    error: str | None
    started_at: datetime
    finished_at: datetime | None
    finished: int | None
    task_status: str | None
    result: Json
    task_finished_at: datetime | None
    task_fence: int | None
    cancel_asked: bool


@dataclass(frozen=True, kw_only=True)
class BegunStep:
    """A step that starts (with its task), is skipped, or fails before it has a task; then ``finished`` is its place."""

    run_id: UUID
    step: str
    type: str
    status: StepStatus
    task_id: UUID | None = None
    error: str | None = None
    finished: int | None = None


@dataclass(frozen=True, kw_only=True)
class EndedStep:
    """A step whose task is final; ``finished`` is its place among the steps of the run that ended."""

    run_id: UUID
    step: str
    status: StepStatus
    error: str | None
    finished: int
    finished_at: datetime


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What a run is now. Sets the times by the status."""

    id: UUID
    status: RunStatus
    detail: str | None
    error: str | None
    output: Json = None


async def keep_workflow(conn: Connection, name: str, document: JsonObject) -> None:
    """Store a definition as the newest version of its workflow. The same document again changes nothing."""
    digest = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
    params = {"name": name, "digest": digest, "document": to_json(document)}
    async with conn.transaction():
        row = await (await query(conn, _SQL["keep_workflow"], params)).fetchone()
        assert row is not None
        await query(conn, _SQL["activate_version"], {"id": row[0], "version": row[1]})


async def workflows(conn: Connection, name: str | None = None) -> list[StoredWorkflow]:
    """The stored workflows in name order; only the one called *name* where that is given."""
    async with conn.cursor(row_factory=class_row(StoredWorkflow)) as cursor:
        await cursor.execute(_SQL["workflows"], {"name": name})
        return await cursor.fetchall()


async def start(conn: Connection, id: UUID, workflow: str, input: JsonObject) -> bool:
    """Start a run of the newest version. False: the id exists already, or the workflow is not there or not active."""
    params = {"id": id, "workflow": workflow, "input": Jsonb(input)}
    return await (await query(conn, _SQL["start"], params)).fetchone() is not None


async def get(conn: Connection, ids: Sequence[UUID]) -> list[StoredRun]:
    """The runs that exist among *ids*, in that order."""
    async with conn.cursor(row_factory=class_row(StoredRun)) as cursor:
        await cursor.execute(_SQL["get"], {"ids": list(ids)})
        runs = {run.id: replace(run, status=RunStatus(run.status)) for run in await cursor.fetchall()}
    return [runs[id] for id in ids if id in runs]


async def find(
    conn: Connection,
    *,
    workflow: str | None = None,
    status: RunStatus | None = None,
    limit: int = 100,
    before: UUID = LAST_ID,
) -> list[UUID]:
    """The ids of matching runs below *before*, the newest first."""
    params = {"workflow": workflow, "status": status and status.value, "limit": limit, "before": before}
    return [row[0] for row in await (await query(conn, _SQL["find"], params)).fetchall()]


async def steps(conn: Connection, runs: Sequence[UUID]) -> list[StoredStep]:
    """The steps of *runs* that began, run by run, in the order they began."""
    async with conn.cursor(row_factory=class_row(StoredStep)) as cursor:
        await cursor.execute(_SQL["steps"], {"runs": list(runs)})
        return [replace(step, status=StepStatus(step.status)) for step in await cursor.fetchall()]


async def cancel(conn: Connection, id: UUID) -> bool:
    """Ask for a run's cancellation. False: it does not exist or is over."""
    return await (await query(conn, _SQL["cancel"], {"id": id})).fetchone() is not None


async def claim(conn: Connection, *, limit: int) -> list[UUID]:
    """Lock runs with news that nobody else is advancing, in id order. Inside a transaction."""
    return [row[0] for row in await (await query(conn, _SQL["claim"], {"limit": limit})).fetchall()]


async def inbox(conn: Connection, runs: Sequence[UUID]) -> list[int]:
    """The news of locked runs."""
    return [row[0] for row in await (await query(conn, _SQL["inbox"], {"runs": list(runs)})).fetchall()]


async def clear_inbox(conn: Connection, ids: Sequence[int]) -> None:
    await query(conn, _SQL["clear_inbox"], {"ids": list(ids)})


async def clear_lost(conn: Connection) -> None:
    """Drop news of runs that are gone."""
    await query(conn, _SQL["clear_lost"])


async def documents(conn: Connection, versions: Sequence[int]) -> dict[int, JsonObject]:
    """The definitions by version."""
    return dict(await (await query(conn, _SQL["documents"], {"versions": list(versions)})).fetchall())


async def begin_steps(conn: Connection, begun: Sequence[BegunStep]) -> None:
    """Record steps that began. One that did already is left alone."""
    params = {
        "runs": [s.run_id for s in begun],
        "steps": [s.step for s in begun],
        "types": [s.type for s in begun],
        "statuses": [s.status.value for s in begun],
        "tasks": [s.task_id for s in begun],
        "errors": [s.error for s in begun],
        "finished": [s.finished for s in begun],
    }
    await query(conn, _SQL["begin_steps"], params)


async def end_steps(conn: Connection, ended: Sequence[EndedStep]) -> None:
    """Record steps whose tasks are final. One that ended already is left alone."""
    params = {
        "runs": [s.run_id for s in ended],
        "steps": [s.step for s in ended],
        "statuses": [s.status.value for s in ended],
        "errors": [s.error for s in ended],
        "finished": [s.finished for s in ended],
        "times": [s.finished_at for s in ended],
    }
    await query(conn, _SQL["end_steps"], params)


async def update(conn: Connection, states: Sequence[RunState]) -> None:
    """Record what runs are now."""
    params = {
        "ids": [s.id for s in states],
        "statuses": [s.status.value for s in states],
        "details": [s.detail for s in states],
        "errors": [s.error for s in states],
        "outputs": [to_json(s.output) for s in states],
    }
    await query(conn, _SQL["update_runs"], params)


async def completed_of_run(conn: Connection, run_id: UUID) -> list[Recorded]:
    """The completed tasks of a run, compensations excluded, the last completed first."""
    async with conn.cursor(row_factory=class_row(Recorded)) as cursor:
        await cursor.execute(_SQL["completed_of_run"], {"run_id": run_id})
        return await cursor.fetchall()


async def completed_task(conn: Connection, id: UUID) -> Recorded | None:
    """The task if it is completed."""
    async with conn.cursor(row_factory=class_row(Recorded)) as cursor:
        await cursor.execute(_SQL["completed_task"], {"id": id})
        return await cursor.fetchone()


async def prune(conn: Connection, *, completed: timedelta, unhappy: timedelta, limit: int) -> int:
    """Delete up to *limit* runs past their retention, with their tasks. Returns how many."""
    params = {"completed": completed, "unhappy": unhappy, "limit": limit}
    row = await (await query(conn, _SQL["prune"], params)).fetchone()
    return row[0] if row else 0
