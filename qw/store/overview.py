"""Queries for lists, health and metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from qw import sql
from qw.store import events
from qw.store.connection import Connection, query
from qw.store.tasks import LogLine

_SQL = sql.statements("overview")
_SEED = sql.statements("seed")


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """Metrics of the whole system. Ages are in seconds; counts of runs and events are exact to 10,000."""

    oldest: dict[str, float]  # of each queue that has ready tasks
    paused: list[str]
    open_runs: dict[str, int]
    outbox: int
    outbox_age: float
    blocked: int
    transaction_age: float
    transaction_id_age: int  # in transactions
    dead_rows: dict[str, int]
    table_bytes: dict[str, int]  # with indexes


async def scheduled(conn: Connection, *, limit: int) -> list[UUID]:
    """Return the ids of tasks with a future start, earliest first."""
    return [row[0] for row in await (await query(conn, _SQL["scheduled"], {"limit": limit})).fetchall()]


async def last_errors(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return why the last attempt of each task failed. Tasks without a failed attempt are left out."""
    return dict(await (await query(conn, _SQL["last_errors"], {"ids": list(ids)})).fetchall())


async def logs(conn: Connection, ids: Sequence[UUID], *, limit: int = 100) -> dict[UUID, list[LogLine]]:
    """Return the first *limit* lines of each task's log."""
    lines: dict[UUID, list[LogLine]] = defaultdict(list)
    rows = await (await query(conn, _SQL["logs"], {"ids": list(ids), "limit": limit})).fetchall()
    for task, id, attempt, at, level, message in rows:
        lines[task].append(LogLine(id=id, attempt=attempt, at=at, level=level, message=message))
    return lines


async def outbox(conn: Connection) -> tuple[int, timedelta]:
    """Return the number of unpublished events, exact to 10,000, and how long the first has waited."""
    pending, seconds = await _one(conn, "outbox")
    return int(pending), timedelta(seconds=seconds)


async def retention_behind(conn: Connection, *, completed: timedelta, failed: timedelta) -> timedelta:
    """Return by how much the oldest finished task has outlived its retention; zero if none has.

    *failed*: the retention of failed and cancelled tasks.
    """
    params = {"completed": completed, "failed": failed}
    row = await (await query(conn, _SQL["retention_behind"], params)).fetchone()
    return timedelta(seconds=row[0] if row else 0)


async def transaction_age(conn: Connection) -> float:
    """Return the seconds since the oldest transaction of this database began."""
    (seconds,) = await _one(conn, "database")
    return seconds


async def gauges(conn: Connection) -> Gauges:
    pending, age = await outbox(conn)
    (id_age,) = await _one(conn, "transaction_id_age")
    return Gauges(
        oldest=dict(await (await query(conn, _SQL["oldest"])).fetchall()),
        paused=[row[0] for row in await (await query(conn, _SQL["paused"])).fetchall()],
        open_runs=dict(await (await query(conn, _SQL["open_runs"])).fetchall()),
        outbox=pending,
        outbox_age=age.total_seconds(),
        blocked=(await events.blocked(conn)).count,
        transaction_age=await transaction_age(conn),
        transaction_id_age=int(id_age),
        dead_rows=dict(await (await query(conn, _SQL["dead_rows"])).fetchall()),
        table_bytes=dict(await (await query(conn, _SQL["table_bytes"])).fetchall()),
    )


async def _one(conn: Connection, verb: str) -> tuple[float, ...]:
    row = await (await query(conn, _SQL[verb])).fetchone()
    assert row is not None
    return row


async def is_empty(conn: Connection) -> bool:
    """Whether there are no tasks."""
    row = await (await query(conn, _SEED["is_empty"])).fetchone()
    return bool(row and row[0])


async def fill(conn: Connection, types: Sequence[str], per_type: int) -> tuple[int, int]:
    """Add finished sample tasks. Return the number of tasks and of log lines."""
    row = await (await query(conn, _SEED["fill"], {"types": list(types), "per_type": per_type})).fetchone()
    return (row[0], row[1]) if row else (0, 0)


async def clear(conn: Connection) -> None:
    """Delete all tasks, workflows and runs."""
    await query(conn, _SEED["clear"])
