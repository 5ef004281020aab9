"""Reads locked runs for the advancer, and stores its decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from qw import sql
from qw.core.expression.functions import MAX_SIZE
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.run import Gather, RunStatus, Signal, StepStatus
from qw.store import arrays
from qw.store.connection import Connection, execute, query, to_json

_SQL = sql.statements("advance")


class InboxEntry(NamedTuple):
    """A row of the inbox. ``ask``: what another run asks of this run: cancel, undo, or None.

    ``due``: the due time of a timer that has expired.
    """

    run_id: UUID
    ask: str | None
    due: datetime | None = None


class OutgoingMessage(NamedTuple):
    """A message for a run, delivered at once or at the time ``at``."""

    run_id: UUID
    ask: str | None = None
    at: datetime | None = None


class Begun(NamedTuple):
    """The task or the run that an item of a foreach started; neither if it failed before."""

    item: int
    task_id: UUID | None = None
    child_id: UUID | None = None


class Settled(NamedTuple):
    """The counts of a foreach after some of its items ended."""

    run_id: UUID
    step: str
    completed: int
    failed: int
    error: str | None
    error_kind: str | None


class StepRow(NamedTuple):
    """The new state of a step. ``finished``: its place in the order in which steps of the run ended, or None."""

    run_id: UUID
    step: str
    type: str
    status: StepStatus
    task_id: UUID | None = None
    child_id: UUID | None = None
    due: datetime | None = None
    items: int | None = None
    rounds: int | None = None
    result: Json = None
    error: str | None = None
    error_kind: str | None = None
    cancel_asked: bool = False
    finished: int | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """The new state of a run. The statement derives its times from the status."""

    id: UUID
    status: RunStatus
    detail: str | None
    error: str | None
    error_kind: str | None = None
    output: Json = None
    cancel_asked: bool = False
    deadline: datetime | None = None


async def has_messages(conn: Connection) -> bool:
    """Whether the inbox has a due message, whether or not its run is locked."""
    return await (await execute(conn, _SQL["has_messages"])).fetchone() is not None


async def lock(conn: Connection, runs: Iterable[UUID]) -> list[UUID]:
    """Lock those of *runs* that no other transaction holds. Return them in id order. Call inside a transaction."""
    rows = await (await execute(conn, _SQL["lock"], {"runs": arrays.uuids(runs)})).fetchall()
    return sorted(row[0] for row in rows)


async def claim(conn: Connection, *, limit: int) -> list[UUID]:
    """Lock runs with inbox messages, skipping locked ones. Return them in id order. Call inside a transaction."""
    return sorted({row[0] for row in await (await execute(conn, _SQL["claim"], {"limit": limit})).fetchall()})


async def take_inbox(conn: Connection, runs: Sequence[UUID]) -> list[InboxEntry]:
    """Delete and return the inbox messages of locked runs."""
    rows = await (await execute(conn, _SQL["take_inbox"], {"runs": arrays.uuids(runs)})).fetchall()
    return [InboxEntry._make(row) for row in rows]


async def clear_lost(conn: Connection) -> None:
    """Delete the messages of runs that no longer exist."""
    await query(conn, _SQL["clear_lost"])


async def set_keys(conn: Connection, keys: Sequence[tuple[UUID, str]]) -> None:
    """Set the concurrency keys of locked runs."""
    await query(conn, _SQL["set_keys"], {"ids": [id for id, _ in keys], "keys": [key for _, key in keys]})


async def lock_keys(conn: Connection, keys: Iterable[str]) -> None:
    """Lock concurrency keys until the end of the transaction: no run with such a key starts or ends meanwhile."""
    await query(conn, _SQL["lock_keys"], {"keys": sorted(set(keys))})


async def ahead(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return how many runs with the same key are open or queued before each of these. Their keys must be locked."""
    return dict(await (await query(conn, _SQL["count_ahead"], {"ids": list(ids)})).fetchall())


async def cancel_oldest(conn: Connection, id: UUID, count: int) -> None:
    """Request cancellation of the *count* oldest open runs with the same key."""
    await query(conn, _SQL["cancel_oldest"], {"id": id, "count": count})


async def signals(conn: Connection, runs: Sequence[UUID]) -> list[tuple[UUID, Signal]]:
    """Return signals of runs that no step has consumed yet, oldest first."""
    rows = await (await query(conn, _SQL["signals"], {"runs": list(runs)})).fetchall()
    return [
        (run_id, Signal(id=id, name=name, payload=payload, sent_by=sent_by, sent_at=sent_at))
        for run_id, id, name, payload, sent_by, sent_at in rows
    ]


async def ask_to_stop(conn: Connection, reasons: Mapping[UUID, str]) -> None:
    """Record a cancel request with its reason for each of these tasks."""
    ids = sorted(reasons)
    await query(conn, _SQL["ask_to_stop"], {"ids": ids, "reasons": [reasons[id] for id in ids]})


async def take_signals(conn: Connection, taken: Sequence[tuple[int, str]]) -> None:
    """Record which step consumed which signal."""
    await query(conn, _SQL["take_signals"], {"ids": [id for id, _ in taken], "steps": [step for _, step in taken]})


async def put_steps(conn: Connection, rows: Sequence[StepRow]) -> None:
    """Store steps that started, changed or ended; at most one row for each. Ended steps are not changed."""
    params = {
        "runs": arrays.uuids(row.run_id for row in rows),
        "steps": arrays.texts(row.step for row in rows),
        "types": arrays.texts(row.type for row in rows),
        "statuses": arrays.texts(row.status.value for row in rows),
        "tasks": arrays.uuids(row.task_id for row in rows),
        "children": arrays.uuids(row.child_id for row in rows),
        "dues": [row.due for row in rows],
        "items": arrays.integers(row.items for row in rows),
        "rounds": arrays.integers(row.rounds for row in rows),
        "results": arrays.texts(to_json(row.result) for row in rows),
        "errors": arrays.texts(row.error for row in rows),
        "kinds": arrays.texts(row.error_kind for row in rows),
        "cancels": [row.cancel_asked for row in rows],
        "finished": arrays.integers(row.finished for row in rows),
        "times": [row.ended_at for row in rows],
    }
    await execute(conn, _SQL["put_steps"], params)


async def put_items(conn: Connection, run: UUID, step: str, items: list[Json]) -> None:
    """Store the items of a foreach that starts."""
    await query(conn, _SQL["put_items"], {"run": run, "step": step, "items": to_json(items)})


async def next_items(conn: Connection, run: UUID, step: str, count: int) -> list[tuple[int, Json]]:
    """Return index and value of the first items that have not started."""
    return await (await query(conn, _SQL["next_items"], {"run": run, "step": step, "count": count})).fetchall()


async def start_items(conn: Connection, run: UUID, step: str, started: Sequence[Begun], error: str | None) -> None:
    """Store what each item started. *error*: of the first item that failed before it started anything."""
    params = {
        "run": run,
        "step": step,
        "items": [one.item for one in started],
        "tasks": [one.task_id for one in started],
        "children": [one.child_id for one in started],
        "error": error,
    }
    await query(conn, _SQL["start_items"], params)


async def settle_items(conn: Connection, runs: Sequence[UUID]) -> list[Settled]:
    """Record which items have ended. Return the new counts of the affected steps."""
    rows = await (await query(conn, _SQL["settle_items"], {"runs": list(runs)})).fetchall()
    return [Settled._make(row) for row in rows]


async def running_items(conn: Connection, run: UUID, step: str) -> list[Begun]:
    """Return the running items."""
    rows = await (await query(conn, _SQL["running_items"], {"run": run, "step": step})).fetchall()
    return [Begun._make(row) for row in rows]


async def keep_rounds(conn: Connection, run: UUID, steps: Sequence[str]) -> None:
    """Store the runs that the last rounds of these steps started, before the next rounds start other runs."""
    await query(conn, _SQL["keep_rounds"], {"run": run, "steps": list(steps)})


async def repeat_tasks(conn: Connection, ids: Sequence[UUID]) -> list[tuple[str, int]]:
    """Make completed tasks ready again. Return their queues and priorities."""
    return await (await query(conn, _SQL["repeat_tasks"], {"ids": sorted(ids)})).fetchall()


async def put_undone(conn: Connection, run: UUID, step: str, *, of: str) -> None:
    """Store the items of the compensation *step*: runs started by the items of the foreach *of* that need undoing."""
    await query(conn, _SQL["put_undone"], {"run": run, "step": step, "of": of})


async def gather_items(conn: Connection, run: UUID, gather: Gather, *, finished: int) -> None:
    """End a foreach with the results of its items."""
    params = {
        "run": run,
        "step": gather.step_id,
        "status": gather.status.value,
        "error": gather.error,
        "finished": finished,
        "most": MAX_SIZE,
    }
    await query(conn, _SQL["gather_items"], params)


class Startable(NamedTuple):
    """A workflow that a step may start, with the version to start."""

    workflow_id: UUID
    version: int
    document: JsonObject


async def startable(conn: Connection, workflow: str, *, parent: UUID) -> Startable | None:
    """Return the workflow that a step of *parent* starts by this name. None: no active workflow has the name."""
    row = await (await query(conn, _SQL["startable"], {"workflow": workflow, "parent": parent})).fetchone()
    return Startable._make(row) if row else None


async def start_children(
    conn: Connection,
    workflow: str,
    of: Startable,
    inputs: Mapping[UUID, JsonObject],
    *,
    parent: UUID,
    depth: int,
    timeout: timedelta | None = None,
) -> None:
    """Start runs with the given ids as a step of another run. With *timeout* they fail after that time."""
    params = {
        "workflow_id": of.workflow_id,
        "version": of.version,
        "ids": list(inputs),
        "inputs": [to_json(input) for input in inputs.values()],
        "workflow": workflow,
        "parent": parent,
        "depth": depth,
        "timeout": timeout,
    }
    await query(conn, _SQL["start_children"], params)


async def tell(conn: Connection, news: Sequence[OutgoingMessage]) -> None:
    """Send messages to runs; other transactions may hold the locks of these runs."""
    params = {
        "runs": [one.run_id for one in news],
        "asks": [one.ask for one in news],
        "times": [one.at for one in news],
    }
    await query(conn, _SQL["send_messages"], params)


async def update_runs(conn: Connection, rows: Sequence[RunRow]) -> None:
    """Store the new states of runs. Notify the runs that wait for a run that is now final."""
    params = {
        "ids": arrays.uuids(row.id for row in rows),
        "statuses": arrays.texts(row.status.value for row in rows),
        "details": arrays.texts(row.detail for row in rows),
        "errors": arrays.texts(row.error for row in rows),
        "kinds": arrays.texts(row.error_kind for row in rows),
        "outputs": arrays.texts(to_json(row.output) for row in rows),
        "cancels": [row.cancel_asked for row in rows],
        "deadlines": [row.deadline for row in rows],
    }
    await execute(conn, _SQL["update_runs"], params)
