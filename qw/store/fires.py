"""Outcomes of schedule ticks: one row per tick, with its task, its run, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from psycopg.rows import class_row

from qw import sql
from qw.core.schedule.fire_decision import Fire, SkippedTick, SkipReason
from qw.store.connection import Connection, execute, query
from qw.store.schedules import StoredSchedule

_SQL = sql.statements("fire")

LAST_TICK = datetime(9999, 1, 1, tzinfo=UTC)

Cause: TypeAlias = Literal["tick", "trigger"]
Tick: TypeAlias = tuple[UUID, datetime]  # a schedule and one of its ticks


@dataclass(frozen=True, kw_only=True)
class StoredFire:
    """The outcome of a tick: a task, a run, or the ``reason`` for neither.

    ``until``: a skip that covers all ticks up to that time.
    """

    tick: datetime
    cause: str
    reason: SkipReason | None
    detail: str | None
    until: datetime | None
    blocker: UUID | None
    task_id: UUID | None
    run_id: UUID | None
    decided_at: datetime


@dataclass(frozen=True, kw_only=True)
class Making:
    """A fire whose task or run is to be created."""

    stored: StoredSchedule
    fire: Fire


async def record(
    conn: Connection, made: Sequence[Making], skipped: Sequence[tuple[UUID, SkippedTick]], cause: Cause = "tick"
) -> set[Tick]:
    """Record outcomes of ticks. Return those that were not recorded before: only these may create tasks or runs."""
    if not made and not skipped:
        return set()
    params = {
        "cause": cause,
        "ids": [m.stored.id for m in made] + [id for id, _ in skipped],
        "ticks": [m.fire.tick for m in made] + [skip.tick for _, skip in skipped],
        "reasons": [None] * len(made) + [skip.reason.value for _, skip in skipped],
        "details": [None] * len(made) + [skip.detail for _, skip in skipped],
        "untils": [None] * len(made) + [skip.until for _, skip in skipped],
        "blockers": [None] * len(made) + [skip.blocker for _, skip in skipped],
        "tasks": [_task_id(m) for m in made] + [None] * len(skipped),
        "runs": [_run_id(m) for m in made] + [None] * len(skipped),
    }
    return set(await (await execute(conn, _SQL["record"], params)).fetchall())


async def record_backfill(conn: Connection, made: Sequence[Making]) -> set[Tick]:
    """Like `record`, for a backfill: skipped ticks fire now; ticks that fired are left out."""
    params = {
        "ids": [m.stored.id for m in made],
        "ticks": [m.fire.tick for m in made],
        "tasks": [_task_id(m) for m in made],
        "runs": [_run_id(m) for m in made],
    }
    return set(await (await query(conn, _SQL["record_backfill"], params)).fetchall())


async def fired_among(conn: Connection, id: UUID, ticks: Sequence[datetime]) -> set[datetime]:
    """Return those of the given ticks that fired."""
    rows = await (await query(conn, _SQL["fired_among"], {"id": id, "ticks": list(ticks)})).fetchall()
    return {row[0] for row in rows}


async def has_made(conn: Connection, id: UUID, made: UUID) -> bool:
    """Whether the schedule created this task or run."""
    return await (await query(conn, _SQL["has_made"], {"id": id, "made": made})).fetchone() is not None


async def refuse(conn: Connection, making: Making, detail: str) -> None:
    """Mark a recorded fire as skipped, because its task or run could not be created."""
    params = {"id": making.stored.id, "tick": making.fire.tick, "detail": detail}
    await query(conn, _SQL["refuse"], params)


async def of_schedule(
    conn: Connection, id: UUID, *, before: datetime = LAST_TICK, limit: int = 100
) -> list[StoredFire]:
    """Return outcomes of the schedule's ticks before a tick, latest first."""
    async with conn.cursor(row_factory=class_row(StoredFire)) as cursor:
        await cursor.execute(_SQL["of_schedule"], {"id": id, "before": before, "limit": limit})
        return await cursor.fetchall()


async def prune(conn: Connection, *, age: timedelta, limit: int) -> int:
    """Delete up to *limit* outcomes older than *age*. Return the number deleted."""
    row = await (await query(conn, _SQL["prune"], {"age": age, "limit": limit})).fetchone()
    return row[0] if row else 0


def _task_id(making: Making) -> UUID | None:
    return making.fire.id if making.stored.starts_task else None


def _run_id(making: Making) -> UUID | None:
    return None if making.stored.starts_task else making.fire.id
