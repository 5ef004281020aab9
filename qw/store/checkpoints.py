"""Checkpoints of tasks: store and read them, resume tasks whose waits have ended, signal tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qw import sql
from qw.core.errors import Conflict
from qw.core.task import Lane, NewTask
from qw.core.task.checkpoint import Checkpoint, CheckpointKey, CheckpointKind
from qw.core.task.payload import Json
from qw.store import tasks
from qw.store.connection import Connection, execute, query, to_json

if TYPE_CHECKING:
    from qw.core.why import Awaited

_SQL = sql.statements("checkpoint")
_COLUMNS = [field.name for field in fields(Checkpoint)]


async def now(conn: Connection, id: UUID) -> tuple[list[Checkpoint], frozenset[str]]:
    """Close the checkpoints of a task whose waits have ended, then return all, by branch and place.

    Also return the names of the signals that the task had received and not read before.
    """
    rows = await _rows(conn, "settle", {"id": id})
    return [_checkpoint(row) for _, *row in rows if row[0] is not None], frozenset(rows[0][0])


async def of_task(conn: Connection, id: UUID) -> list[Checkpoint]:
    """Return the checkpoints of a task without closing any, oldest first."""
    rows = await (await query(conn, _SQL["of_task"], {"id": id})).fetchall()
    return [_checkpoint(row) for row in rows]


async def keep(conn: Connection, id: UUID, fence: int, key: CheckpointKey, *, place: float, value: Json) -> bool:
    """Store the result of a step. Return False if it existed. Raise Conflict if the attempt has lost its task."""
    params = {"id": id, "fence": fence, **key._asdict(), "place": place, "value": to_json(value)}
    row = await (await execute(conn, _SQL["keep"], params)).fetchone()
    assert row is not None
    mine, kept = row
    if not mine:
        raise _lost(id)
    return bool(kept)


async def begin_wait(
    conn: Connection,
    id: UUID,
    fence: int,
    key: CheckpointKey,
    kind: CheckpointKind,
    *,
    place: float,
    delay: timedelta | None = None,
    child: UUID | None = None,
) -> Checkpoint:
    """Begin to wait for a time, a signal or the end of the task *child*, for at most *delay*.

    If the signal has arrived already, the checkpoint is returned closed. Safe to repeat. Raise Conflict if the attempt
    has lost its task.
    """
    return await _begin(conn, id, fence, key, kind, place, delay, child)


async def call(
    conn: Connection, id: UUID, fence: int, calls: Sequence[tuple[CheckpointKey, float, NewTask]]
) -> list[Checkpoint]:
    """Enqueue the called tasks and begin to wait for them, in one transaction. Raise Conflict as `begin_wait`."""
    begun = []
    async with conn.transaction():
        for key, place, task in calls:
            begun.append(await _begin(conn, id, fence, key, CheckpointKind.CALL, place, None, task.id))
        new = {checkpoint.child_id for checkpoint in begun}
        await tasks.enqueue(conn, [task for _, _, task in calls if task.id in new])
    return begun


async def _begin(
    conn: Connection,
    id: UUID,
    fence: int,
    key: CheckpointKey,
    kind: CheckpointKind,
    place: float,
    delay: timedelta | None,
    child: UUID | None,
) -> Checkpoint:
    params = {
        "id": id,
        "fence": fence,
        **key._asdict(),
        "kind": kind.value,
        "place": place,
        "delay": delay,
        "child": child,
    }
    rows = await _rows(conn, "begin_wait", params)
    if not rows:
        raise _lost(id)
    return _checkpoint(rows[0])


async def awaited(conn: Connection, id: UUID, *, limit: int) -> list[Awaited]:
    """Return what a suspended task waits for, oldest first; empty: it is not suspended."""
    from qw.core.why import Awaited

    rows = await (await query(conn, _SQL["awaited"], {"id": id, "limit": limit})).fetchall()
    return [
        Awaited(
            kind=CheckpointKind(kind),
            name=str(CheckpointKey(branch, name, occurrence)),
            signal=name,
            since=since,
            due_at=due_at,
            child_id=child_id,
            child_type=type,
        )
        for kind, branch, name, occurrence, since, due_at, child_id, type in rows
    ]


async def signal(conn: Connection, id: UUID, name: str, payload: Json, *, by: str | None) -> None:
    """Send a signal to a task. Raise NotFound, Conflict if it is final, Invalid for a wrong name or payload."""
    params = {"id": id, "name": name, "payload": to_json(payload), "by": by}
    await query(conn, _SQL["signal"], params)


async def resume(conn: Connection, *, limit: int) -> tuple[int, list[Lane]]:
    """Resume suspended tasks whose waits have ended.

    Return the number of inbox entries taken, at most *limit*, and the lanes of the resumed tasks.
    """
    row = await (await execute(conn, _SQL["resume"], {"limit": limit})).fetchone()
    assert row is not None
    taken, queues, priorities = row
    return taken, list(map(Lane, queues or (), priorities or ()))


async def _rows(conn: Connection, name: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Run a statement of handlers: prepared, unless there is a pooler. Its functions set the planner guards."""
    is_prepared = conn.prepare_threshold is not None
    return await (await conn.execute(_SQL[name], params, prepare=is_prepared, binary=True)).fetchall()


def _checkpoint(row: Sequence[Any]) -> Checkpoint:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Checkpoint(**{**values, "kind": CheckpointKind(values["kind"])})


def _lost(id: UUID) -> Conflict:
    return Conflict(f"task {id} is not this attempt's any more: its lease was lost")
