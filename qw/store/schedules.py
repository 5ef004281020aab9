"""Schedules: store them, claim due ones, store their progress. Outcomes of ticks are in `qw.store.fires`.

Only the database's clock counts; *clock* replaces it in tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, TypeAlias, cast
from uuid import UUID

from qw import sql
from qw.core.schedule import Misfire, Overlap, Schedule, Target, TaskTarget, WorkflowTarget
from qw.core.schedule.fire_decision import FireDecision, ScheduleState, SkipReason
from qw.core.task import TaskSettings
from qw.store.connection import Connection, Cursor, execute, query, to_json

_SQL = sql.statements("schedule")

Ref: TypeAlias = str | UUID  # a schedule's name or its id


@dataclass(frozen=True, kw_only=True)
class StoredSchedule:
    """A stored schedule. ``read_at``: the database's time when it was read.

    ``next_at``: when a daemon looks at it: its next tick plus jitter; None while paused or broken, and once it has
    ended.
    """

    id: UUID
    schedule: Schedule
    paused_at: datetime | None
    mark: datetime
    next_tick: datetime | None
    next_at: datetime | None
    last_id: UUID | None
    broken: str | None
    created_at: datetime
    updated_at: datetime
    read_at: datetime

    @property
    def name(self) -> str:
        return self.schedule.name

    @property
    def starts_task(self) -> bool:
        """Whether the schedule starts tasks rather than runs."""
        return isinstance(self.schedule.target, TaskTarget)

    def state(self, busy: UUID | None = None) -> ScheduleState:
        return ScheduleState(id=self.id, schedule=self.schedule, created_at=self.created_at, mark=self.mark, busy=busy)


@dataclass(frozen=True, kw_only=True)
class ScheduleProgress:
    """The state of a schedule after its due ticks, and the number of ticks it has missed since."""

    id: UUID
    mark: datetime
    next_tick: datetime | None
    next_at: datetime | None
    last_id: UUID | None = None
    broken: str | None = None
    missed: int = 0


@dataclass(frozen=True, kw_only=True)
class ScheduleStats:
    """Metrics of a schedule. ``succeeded_at``: when the task or run of the latest tick that completed did so."""

    name: str
    next_tick: datetime | None
    missed: int
    succeeded_at: datetime | None


async def claim(conn: Connection, *, limit: int, clock: datetime | None = None) -> list[StoredSchedule]:
    """Lock due schedules, longest overdue first, skipping locked ones. Call inside a transaction."""
    return await _read(await execute(conn, _SQL["claim"], {"limit": limit, "clock": clock}))


async def due(conn: Connection, *, clock: datetime | None = None) -> float | None:
    """Return the seconds until the next schedule is due, negative if overdue; None: there is none."""
    row = await (await execute(conn, _SQL["due"], {"clock": clock})).fetchone()
    return row[0] if row else None


async def busy(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the tasks and runs that are not final."""
    return {row[0] for row in await (await execute(conn, _SQL["busy"], {"ids": list(ids)})).fetchall()}


async def decide(conn: Connection, decided: Sequence[ScheduleProgress]) -> None:
    """Store the progress of locked schedules."""
    params = {
        "ids": [d.id for d in decided],
        "marks": [d.mark for d in decided],
        "ticks": [d.next_tick for d in decided],
        "times": [d.next_at for d in decided],
        "lasts": [d.last_id for d in decided],
        "broken": [d.broken for d in decided],
        "missed": [d.missed for d in decided],
    }
    await execute(conn, _SQL["decide"], params)


async def get(conn: Connection, ref: Ref, *, clock: datetime | None = None) -> StoredSchedule | None:
    return await _one(conn, "get", ref, clock)


async def lock(conn: Connection, ref: Ref, *, clock: datetime | None = None) -> StoredSchedule | None:
    """Return the schedule, locked against daemons that would fire it. Call inside a transaction."""
    return await _one(conn, "lock", ref, clock)


async def _one(conn: Connection, statement: str, ref: Ref, clock: datetime | None) -> StoredSchedule | None:
    by_name = isinstance(ref, str)
    params = {"name": ref if by_name else None, "id": None if by_name else ref, "clock": clock}
    return next(iter(await _read(await query(conn, _SQL[statement], params))), None)


async def page(
    conn: Connection, *, after: str = "", limit: int = 1000, clock: datetime | None = None
) -> list[StoredSchedule]:
    """Return schedules in name order, starting after the name *after*."""
    return await _read(await query(conn, _SQL["list"], {"after": after, "limit": limit, "clock": clock}))


async def names(conn: Connection) -> list[str]:
    """Return the names of the first 1,000 schedules."""
    return [row[0] for row in await (await query(conn, _SQL["names"])).fetchall()]


async def now(conn: Connection, *, clock: datetime | None = None) -> datetime:
    """Return the database's time."""
    row = await (await query(conn, _SQL["now"], {"clock": clock})).fetchone()
    assert row is not None
    return cast("datetime", row[0])


async def add(
    conn: Connection,
    id: UUID,
    schedule: Schedule,
    *,
    now: datetime,
    next: tuple[datetime | None, datetime | None],
) -> bool:
    """Store a new schedule with its next tick and the time to act on it. Return False if its name or id is taken."""
    params = {"id": id, "now": now, "next_tick": next[0], "next_at": next[1], **_columns(schedule)}
    return await (await query(conn, _SQL["add"], params)).fetchone() is not None


async def change(
    conn: Connection,
    id: UUID,
    schedule: Schedule,
    *,
    now: datetime,
    next: tuple[datetime | None, datetime | None],
) -> None:
    """Store a new definition of a locked schedule; ticks due before *now* will not fire."""
    params = {"id": id, "now": now, "next_tick": next[0], "next_at": next[1], **_columns(schedule)}
    await query(conn, _SQL["change"], params)


async def pause(conn: Connection, id: UUID) -> None:
    await query(conn, _SQL["pause"], {"id": id})


async def fired(conn: Connection, id: UUID, last: UUID) -> None:
    """Record *last* as the newest task or run that a locked schedule made."""
    await query(conn, _SQL["fired"], {"id": id, "last": last})


async def remove(conn: Connection, id: UUID) -> None:
    """Delete a schedule. Its tasks and runs, and the outcomes of its ticks, are kept."""
    await query(conn, _SQL["remove"], {"id": id})


async def lower_marks(conn: Connection) -> int:
    """Continue schedules from now after the database's clock was set back. Return how many were ahead."""
    row = await (await query(conn, _SQL["lower_marks"])).fetchone()
    return row[0] if row else 0


async def late(conn: Connection, *, by: timedelta, limit: int = 100) -> list[tuple[str, timedelta]]:
    """Return schedules overdue by more than *by*, with the delay, longest first."""
    rows = await (await query(conn, _SQL["late"], {"by": by, "limit": limit})).fetchall()
    return [(name, timedelta(seconds=seconds)) for name, seconds in rows]


async def measures(conn: Connection) -> list[ScheduleStats]:
    """Return metrics of the first 1,000 schedules, in name order."""
    return [
        ScheduleStats(name=name, next_tick=next_tick, missed=missed, succeeded_at=succeeded_at)
        for name, next_tick, missed, succeeded_at in await (await query(conn, _SQL["measures"])).fetchall()
    ]


def decided(stored: StoredSchedule, decision: FireDecision) -> ScheduleProgress:
    """Return the progress of a schedule after *decision*."""
    return ScheduleProgress(
        id=stored.id,
        mark=decision.mark,
        next_tick=decision.next_tick,
        next_at=decision.next_at,
        last_id=decision.fires[-1].id if decision.fires else None,
        missed=sum(skip.reason is SkipReason.MISSED for skip in decision.skips),
    )


def _columns(schedule: Schedule) -> dict[str, Any]:
    target = schedule.target
    task = target if isinstance(target, TaskTarget) else None
    workflow = target if isinstance(target, WorkflowTarget) else None
    return {
        **vars(schedule),
        **(task or TaskSettings()).settings(),
        "misfire": schedule.misfire.value,
        "overlap": schedule.overlap.value,
        "type": task and task.type,
        "payload": to_json(task and task.payload),
        "workflow": workflow and workflow.workflow,
        "input": to_json(workflow and workflow.input),
    }


def _stored(row: dict[str, Any]) -> StoredSchedule:
    target: Target = (
        WorkflowTarget(workflow=row["workflow"], input=row["input"])
        if row["type"] is None
        else TaskTarget(**{name: row[name] for name in _TARGET})
    )
    schedule = Schedule(
        target=target,
        misfire=Misfire(row["misfire"]),
        overlap=Overlap(row["overlap"]),
        window=row["misfire_window"],
        start=row["start_at"],
        end=row["end_at"],
        paused=row["paused_at"] is not None,
        **{name: row[name] for name in _PLAIN},
    )
    return StoredSchedule(schedule=schedule, **{name: row[name] for name in _STATE})


_TARGET = [field.name for field in fields(TaskTarget)]
_CONVERTED = {"target", "misfire", "overlap", "window", "start", "end", "paused"}
_PLAIN = {field.name for field in fields(Schedule)} - _CONVERTED
_STATE = {field.name for field in fields(StoredSchedule)} - {"schedule"}


async def _read(cursor: Cursor) -> list[StoredSchedule]:
    names = [column.name for column in cursor.description or ()]
    return [_stored(dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]
