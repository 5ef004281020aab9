"""Workflows and runs: store, start, read, signal, repair, prune."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

import orjson
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from qw import sql
from qw.core.errors import Conflict
from qw.core.task.handler_api import Recorded
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.repair import Redo
from qw.core.workflow.run import Counts, RunStatus, StepState, StepStatus
from qw.store import arrays
from qw.store.connection import Connection, query, to_json
from qw.store.tasks import LAST_ID

_SQL = sql.statements("run")


@dataclass(frozen=True, kw_only=True)
class StoredWorkflow:
    """A stored workflow with its newest version."""

    id: UUID
    name: str
    is_active: bool
    document: JsonObject
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class StoredRun:
    """A run, pinned to the version of its workflow that it started with. ``digest``: the digest of the definition.

    ``read_at`` is the database's time. The fields have the order of the statement's columns.
    """

    id: UUID
    workflow: str
    workflow_id: UUID
    version: int
    digest: str
    status: RunStatus
    detail: str | None
    input: JsonObject
    output: Json
    error: str | None
    error_kind: str | None
    cancel_asked: bool
    key: str | None
    deadline: datetime | None
    parent_id: UUID | None
    depth: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    read_at: datetime


@dataclass(frozen=True, kw_only=True)
class StoredItem:
    """An item of a foreach, with the task or the run that it started."""

    item: int
    status: str
    task_id: UUID | None
    child_id: UUID | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class StoredSignal:
    """A signal sent to a run. ``step``: the step that consumed it; None: not consumed yet."""

    id: int
    name: str
    payload: Json
    sent_by: str | None
    sent_at: datetime
    step: str | None


async def save_workflow(conn: Connection, name: str, document: JsonObject) -> None:
    """Store a definition as the newest version of its workflow. An unchanged document makes no new version."""
    params = {"name": name, "digest": _digest(document), "document": to_json(document)}
    async with conn.transaction():
        row = await (await query(conn, _SQL["save_workflow"], params)).fetchone()
        assert row is not None
        await query(conn, _SQL["activate_version"], {"id": row[0], "version": row[1]})


async def offer_workflow(conn: Connection, name: str, document: JsonObject) -> bool:
    """Store a definition as the newest version, unless it was a version before. Return False if it was.

    So daemons with different files do not alternate: each version becomes the newest at most once.
    """
    params = {"name": name, "digest": _digest(document), "document": to_json(document)}
    async with conn.transaction():
        row = await (await query(conn, _SQL["offer_workflow"], params)).fetchone()
        if row is not None:
            await query(conn, _SQL["activate_version"], {"id": row[0], "version": row[1]})
    return row is not None


def _digest(document: JsonObject) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def workflows(conn: Connection, name: str | None = None) -> list[StoredWorkflow]:
    """Return the stored workflows in name order; with *name*, only that one."""
    async with conn.cursor(row_factory=class_row(StoredWorkflow)) as cursor:
        await cursor.execute(_SQL["workflows"], {"name": name})
        return await cursor.fetchall()


async def start(conn: Connection, id: UUID, workflow: str, input: JsonObject) -> bool:
    """Start a run of the newest version. Return False if the id exists, or the workflow is missing or inactive."""
    params = {"id": id, "workflow": workflow, "input": Jsonb(input)}
    return await (await query(conn, _SQL["start"], params)).fetchone() is not None


async def start_checked(
    conn: Connection, id: UUID, workflow: str, input: JsonObject, *, key: str | None, run_at: datetime | None
) -> UUID:
    """Start a run as a role that may not write tables; a daemon advances it. Return its id, or the existing run's."""
    params = {"id": id, "workflow": workflow, "input": Jsonb(input), "key": key, "run_at": run_at}
    row = await (await query(conn, _SQL["start_checked"], params)).fetchone()
    assert row is not None
    return cast("UUID", row[0])


async def take_key(conn: Connection, key: str, id: UUID, what: str, given: JsonObject) -> UUID:
    """Record that the idempotency *key* belongs to *id*, a *what* made from *given*. Return the id that has the key.

    Raise Conflict if that was made from something else.
    """
    params = {"key": key, "id": id, "what": what, "given": Jsonb(given)}
    row = await (await query(conn, _SQL["take_key"], params)).fetchone()
    assert row is not None
    holder: UUID = row[0]
    if not row[1]:
        raise Conflict(f"idempotency key {key} was already used for {holder} with different parameters", holder=holder)
    return holder


async def get(conn: Connection, ids: Sequence[UUID]) -> list[StoredRun]:
    """Return the existing runs among *ids*, in that order."""
    rows = await (await conn.execute(_SQL["get"], {"ids": arrays.uuids(ids)}, binary=True)).fetchall()
    runs = {row[0]: StoredRun(*[*row[:5], _RUN_STATUS[row[5]], *row[6:]]) for row in rows}
    return [runs[id] for id in ids if id in runs]


_RUN_STATUS = {status.value: status for status in RunStatus}


async def workflow_names(conn: Connection, ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the workflow name of each run, by run id."""
    return dict(await (await query(conn, _SQL["workflow_names"], {"ids": list(ids)})).fetchall())


async def find(
    conn: Connection,
    *,
    workflow: str | None = None,
    status: RunStatus | None = None,
    limit: int = 100,
    before: UUID = LAST_ID,
) -> list[UUID]:
    """Return the ids of matching runs below *before*, newest first."""
    params = {"workflow": workflow, "status": status and status.value, "limit": limit, "before": before}
    return [row[0] for row in await (await query(conn, _SQL["find"], params)).fetchall()]


async def steps(conn: Connection, runs: Sequence[UUID]) -> dict[UUID, list[StepState]]:
    """Return the steps of each of *runs* that have started, in start order."""
    rows = await (await conn.execute(_SQL["steps"], {"runs": arrays.uuids(runs)}, binary=True)).fetchall()
    steps: dict[UUID, list[StepState]] = {run: [] for run in runs}
    for run, step, status, *fields, total, started, completed, failed in rows:
        items = None
        if total is not None:
            items = Counts(total=total, started=started, completed=completed, failed=failed)
        steps[run].append(StepState._make((step, _STEP_STATUS[status], *fields, items, False)))
    return steps


_STEP_STATUS = {status.value: status for status in StepStatus}


async def cancel(conn: Connection, id: UUID, *, by: str | None = None) -> bool:
    """Request cancellation of a run. Return False if it does not exist or is final."""
    return await (await query(conn, _SQL["cancel"], {"id": id, "by": by})).fetchone() is not None


async def lock(conn: Connection, id: UUID) -> int | None:
    """Lock the run against advancers until the end of the transaction. Return its version; None: no such run."""
    row = await (await query(conn, _SQL["lock"], {"id": id})).fetchone()
    return row[0] if row else None


async def save_version(conn: Connection, run: UUID, document: JsonObject) -> int:
    """Store a definition for this run, without making it the newest of its workflow. Return its version."""
    params = {"run": run, "digest": _digest(document), "document": to_json(document)}
    row = await (await query(conn, _SQL["save_version"], params)).fetchone()
    assert row is not None
    return cast("int", row[0])


async def newest_version(conn: Connection, run: UUID) -> int | None:
    """Return the newest version of the run's workflow. None: the workflow was deleted."""
    row = await (await query(conn, _SQL["newest_version"], {"run": run})).fetchone()
    return row[0] if row else None


async def reopen(
    conn: Connection, run: UUID, *, version: int, redo: Redo, undone: Sequence[UUID] = (), going_on: Sequence[str] = ()
) -> None:
    """Restart a locked final run with *version*, as if the steps to be repeated had never started.

    *undone*: tasks whose items are repeated. *going_on*: steps whose child runs are continued instead.
    """
    steps = sorted(redo.steps.difference(going_on))
    params = {"run": run, "steps": steps, "whole": sorted(redo.whole), "undone": list(undone)}
    await query(conn, _SQL["forget_steps"], params)
    if going_on:
        await query(conn, _SQL["resume_children"], {"run": run, "steps": list(going_on)})
    if redo.is_back:
        await query(conn, _SQL["pin"], {"run": run, "version": version})
        await query(conn, _SQL["resume_undoing"], {"run": run})
    else:
        await query(conn, _SQL["reopen"], {"run": run, "version": version})


async def done_by_hand(conn: Connection, run: UUID, step: str, result: JsonObject) -> None:
    """Mark a failed compensation of a locked final run as completed, and let the run continue."""
    await query(conn, _SQL["done_by_hand"], {"run": run, "step": step, "result": Jsonb(result)})
    await query(conn, _SQL["resume_undoing"], {"run": run})


async def failed_children(conn: Connection, run: UUID, steps: Sequence[str]) -> list[tuple[str, UUID]]:
    """Return the final runs, not completed, that these steps or their items started; each with its step."""
    rows = await (await query(conn, _SQL["failed_children"], {"run": run, "steps": list(steps)})).fetchall()
    return [(row[0], row[1]) for row in rows]


async def undone_tasks(conn: Connection, run: UUID) -> list[UUID]:
    """Return the tasks of a run that its tasks of type compensation have undone."""
    return [row[0] for row in await (await query(conn, _SQL["undone_tasks"], {"run": run})).fetchall()]


async def signal(conn: Connection, run: UUID, name: str, payload: Json, *, sent_by: str | None) -> None:
    """Send a signal to a run. Raise NotFound, or Conflict if it is final."""
    params = {"run": run, "name": name, "payload": to_json(payload), "sent_by": sent_by}
    await query(conn, _SQL["signal"], params)


async def record_decision(conn: Connection, run: UUID, name: str, payload: JsonObject, *, sent_by: str | None) -> None:
    """Record a decision about a run. *name*: a result of `approval_name`, or a constant that ends in SIGNAL."""
    params = {"run": run, "name": name, "payload": to_json(payload), "sent_by": sent_by}
    await query(conn, _SQL["record_decision"], params)


async def signals(conn: Connection, run: UUID) -> list[StoredSignal]:
    """Return the signals sent to a run, oldest first."""
    async with conn.cursor(row_factory=class_row(StoredSignal)) as cursor:
        await cursor.execute(_SQL["signals"], {"run": run})
        return await cursor.fetchall()


async def notable_items(conn: Connection, run: UUID, step: str, *, limit: int) -> list[StoredItem]:
    """Return the first failed or cancelled items of a foreach, then running ones."""
    async with conn.cursor(row_factory=class_row(StoredItem)) as cursor:
        await cursor.execute(_SQL["notable_items"], {"run": run, "step": step, "limit": limit})
        return await cursor.fetchall()


async def documents(conn: Connection, versions: Sequence[int]) -> dict[int, JsonObject]:
    """Return the definitions by version."""
    return dict(await (await query(conn, _SQL["documents"], {"versions": list(versions)})).fetchall())


async def completed_of_run(conn: Connection, run_id: UUID) -> list[Recorded]:
    """Return the completed tasks of a run without compensations, latest completed first."""
    async with conn.cursor(row_factory=class_row(Recorded)) as cursor:
        await cursor.execute(_SQL["completed_of_run"], {"run_id": run_id})
        return await cursor.fetchall()


async def completed_task(conn: Connection, id: UUID) -> Recorded | None:
    """Return the task if it is completed."""
    async with conn.cursor(row_factory=class_row(Recorded)) as cursor:
        await cursor.execute(_SQL["completed_task"], {"id": id})
        return await cursor.fetchone()


async def with_input(
    conn: Connection, path: Sequence[str], value: str, *, after: UUID, limit: int
) -> tuple[list[UUID], UUID | None]:
    """Return runs with the text *value* at *path* of their input; paging as in `tasks.with_payload`."""
    params = {"path": list(path), "value": value, "after": after, "limit": limit}
    row = await (await query(conn, _SQL["with_input"], params)).fetchone()
    return (row[1], row[0]) if row else ([], None)


async def past_retention(conn: Connection, *, completed: timedelta, failed: timedelta, limit: int) -> list[UUID]:
    """Return up to *limit* runs that ended longer ago than their retention."""
    params = {"completed": completed, "failed": failed, "limit": limit}
    return [row[0] for row in await (await query(conn, _SQL["past_retention"], params)).fetchall()]


async def finished_tasks(conn: Connection, ids: Sequence[UUID], *, limit: int) -> list[UUID]:
    """Return up to *limit* finished tasks of these runs."""
    return [
        row[0]
        for row in await (await query(conn, _SQL["finished_tasks"], {"ids": list(ids), "limit": limit})).fetchall()
    ]


async def prune(conn: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Delete those of the runs that are still final. Tasks that remain then belong to no run."""
    return [row[0] for row in await (await query(conn, _SQL["prune"], {"ids": list(ids)})).fetchall()]


async def home(conn: Connection) -> tuple[str, int]:
    """Return the database's name and the time its schema was made, in seconds: together unique to the database."""
    ((name, made),) = await (await query(conn, _SQL["home"])).fetchall()
    return name, made


async def existing(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return those of *ids* that are runs."""
    return {row[0] for row in await (await query(conn, _SQL["existing"], {"ids": list(ids)})).fetchall()}


async def prune_versions(conn: Connection, *, age: timedelta, keep: int, limit: int) -> int:
    """Delete up to *limit* unreferenced versions older than *age*, except the last *keep* of each workflow."""
    row = await (await query(conn, _SQL["prune_versions"], {"age": age, "keep": keep, "limit": limit})).fetchone()
    return row[0] if row else 0
