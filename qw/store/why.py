"""Reads the facts for `qw.core.why`: a few statements, each answered by an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from qw import sql
from qw.core.why import MOST_AHEAD, HeldBack, ServerState, TaskFacts, TaskWorker
from qw.store import checkpoints, tasks, workers
from qw.store.connection import Connection, query
from qw.store.queues import limits_of_row
from qw.store.workers import WorkerRow

_SQL = sql.statements("why")

MOST_AWAITED = 20  # maximum number of waits of one task

# Only a daemon knows which slots a type uses. These two types are built in; others are assumed to be async.
_KINDS: Mapping[str, str] = {"command": "process", "data_processing": "thread"}


async def facts(conn: Connection, id: UUID) -> TaskFacts | None:
    """Return the facts about a task; None if it does not exist."""
    stored = await tasks.get(conn, [id])
    row = await _row(conn, id)
    if not stored or row is None:
        return None
    task = stored[0]
    attempts = await tasks.attempts(conn, id)
    return TaskFacts(
        now=row["now"],
        task=task,
        last=attempts[-1] if attempts else None,
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        cancel_reason=row["cancel_reason"],
        cancel_at=row["cancel_at"],
        ahead=row["ahead"],
        usual_seconds=row["usual_seconds"],
        suspects_running=await _suspects(conn),
        losses=row["losses"],
        servers=_servers(await workers.living(conn), await _running(conn), _kind(task.type)),
        holder=_holder(row) if task.worker is not None else None,
        held_back=await _held_back(conn, id),
        awaited=await checkpoints.awaited(conn, id, limit=MOST_AWAITED),
    )


async def waits_for_advance(conn: Connection, run_id: UUID) -> bool:
    """Whether messages for the run wait for an advancer."""
    row = await (await query(conn, _SQL["waits_for_advance"], {"run_id": run_id})).fetchone()
    return bool(row and row[0])


async def _row(conn: Connection, id: UUID) -> dict[str, Any] | None:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["facts"], {"id": id, "most": MOST_AHEAD})
        return await cursor.fetchone()


async def _held_back(conn: Connection, id: UUID) -> HeldBack | None:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["limited"], {"id": id})
        row = await cursor.fetchone()
    if row is None:
        return None
    return HeldBack(
        limits=limits_of_row(row),
        value=row["value"],
        running=row["running"],
        key_running=row["key_running"],
        holders=row["holders"] or (),
        ahead=row["ahead"],
        rate_at=row["rate_at"],
        key_rate_at=row["key_rate_at"],
    )


async def _suspects(conn: Connection) -> int:
    row = await (await query(conn, _SQL["suspects"])).fetchone()
    return row[0] if row else 0


async def _running(conn: Connection) -> Sequence[tuple[int, str, int]]:
    return [(row[0], row[1], row[2]) for row in await (await query(conn, _SQL["running"])).fetchall()]


def _servers(living: Sequence[WorkerRow], running: Sequence[tuple[int, str, int]], kind: str) -> list[ServerState]:
    return [
        ServerState(
            id=worker.id,
            place=f"{worker.host}:{worker.pid}",
            types=frozenset(worker.types),
            queues=frozenset(worker.queues),
            slots=_slots(worker, kind),
            running=sum(n for id, type, n in running if id == worker.id and _kind(type) == kind),
            draining=worker.draining,
            trouble=worker.trouble,
        )
        for worker in living
    ]


def _slots(worker: WorkerRow, kind: str) -> int:
    size = worker.slots.get(kind, 0)
    return size if isinstance(size, int) else 0


def _kind(type: str) -> str:
    return _KINDS.get(type, "async")


def _holder(row: Mapping[str, Any]) -> TaskWorker:
    return TaskWorker(
        place=f"{row['worker_host']}:{row['worker_pid']}",
        seen_at=row["worker_seen_at"],
        draining=bool(row["worker_draining"]),
        is_gone=row["worker_host"] is None or bool(row["worker_gone"]),
    )
