"""Reads locked runs for the advancer, and stores its decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from qw import sql
from qw.core.expression.functions import MAX_SIZE
from qw.core.task.payload import Json, JsonObject, clean_error
from qw.core.workflow.run import Gather, Run, Signal, StepState
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


async def put_steps(conn: Connection, steps: Mapping[tuple[UUID, str], StepState]) -> None:
    """Store steps, by run and step id, that started, changed or ended. Ended steps are not changed."""
    states = steps.values()
    results = (None if state.task_id or state.child_id else state.result for state in states)  # theirs are not copied
    params = {
        "runs": arrays.uuids(run for run, _ in steps),
        "steps": arrays.texts(step for _, step in steps),
        "types": arrays.texts(state.type for state in states),
        "statuses": arrays.texts(state.status.value for state in states),
        "tasks": arrays.uuids(state.task_id for state in states),
        "children": arrays.uuids(state.child_id for state in states),
        "dues": [state.due_at for state in states],
        "items": arrays.integers(state.items.total if state.items else None for state in states),
        "rounds": arrays.integers(state.rounds or None for state in states),
        "results": arrays.texts(map(to_json, results)),
        "errors": arrays.texts(_clean(state.error) for state in states),
        "kinds": arrays.texts(state.error_kind for state in states),
        "cancels": [state.cancel_asked for state in states],
        "finished": arrays.integers(state.finished or None for state in states),
        "times": [state.finished_at for state in states],
    }
    await execute(conn, _SQL["put_steps"], params)


def _clean(error: str | None) -> str | None:
    return clean_error(error) if error else None


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
        "items": [item.item for item in started],
        "tasks": [item.task_id for item in started],
        "children": [item.child_id for item in started],
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


async def send(conn: Connection, messages: Sequence[OutgoingMessage]) -> None:
    """Send messages to runs; other transactions may hold the locks of these runs."""
    params = {
        "runs": [message.run_id for message in messages],
        "asks": [message.ask for message in messages],
        "times": [message.at for message in messages],
    }
    await query(conn, _SQL["send_messages"], params)


async def update_runs(conn: Connection, runs: Sequence[Run]) -> None:
    """Store the new states of runs. Notify the runs that wait for a run that is now final."""
    params = {
        "ids": arrays.uuids(run.id for run in runs),
        "statuses": arrays.texts(run.status.value for run in runs),
        "details": arrays.texts(run.detail for run in runs),
        "errors": arrays.texts(_clean(run.error) for run in runs),
        "kinds": arrays.texts(run.error_kind for run in runs),
        "outputs": arrays.texts(to_json(run.output) for run in runs),
        "cancels": [run.cancel_asked for run in runs],
        "deadlines": [run.deadline for run in runs],
    }
    await execute(conn, _SQL["update_runs"], params)
