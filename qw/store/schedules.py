"""Schedules: stored, claimed when due, and what became of their ticks.

Only the database's clock counts. *clock* stands in for it in tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, cast
from uuid import UUID

from psycopg.rows import class_row

from qw import sql
from qw.core.firing import Decision, Fire, Reason, Skip, State
from qw.core.schedule import Misfire, Overlap, Schedule, TaskTarget, WorkflowTarget
from qw.store.connection import Connection, execute, query, to_json

_SQL = sql.statements("schedule")

LAST_TICK = datetime(9999, 1, 1, tzinfo=UTC)

Ref: TypeAlias = str | UUID  # a schedule's name or its id
Cause: TypeAlias = Literal["tick", "trigger"]
Tick: TypeAlias = tuple[UUID, datetime]  # a schedule and one of its ticks


@dataclass(frozen=True, kw_only=True)
class StoredSchedule:
    """A schedule as it stands. ``read_at`` is the database's time when it was read.

    ``next_at`` is when a daemon looks at it: its next tick with jitter; None while paused, broken or over.
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
        """A task, and not a run."""
        return isinstance(self.schedule.target, TaskTarget)

    def state(self, busy: UUID | None = None) -> State:
        return State(id=self.id, schedule=self.schedule, created_at=self.created_at, mark=self.mark, busy=busy)


@dataclass(frozen=True, kw_only=True)
class StoredFire:
    """What became of a tick: a task or a run, or the ``reason`` why neither. ``until``: so too for all up to that."""

    tick: datetime
    cause: str
    reason: Reason | None
    detail: str | None
    until: datetime | None
    blocker: UUID | None
    task_id: UUID | None
    run_id: UUID | None
    decided_at: datetime


@dataclass(frozen=True, kw_only=True)
class Decided:
    """Where a schedule stands after its due ticks."""

    id: UUID
    mark: datetime
    next_tick: datetime | None
    next_at: datetime | None
    last_id: UUID | None = None
    broken: str | None = None


@dataclass(frozen=True, kw_only=True)
class Making:
    """A fire that is to make what its schedule starts."""

    stored: StoredSchedule
    fire: Fire


async def claim(conn: Connection, *, limit: int, clock: datetime | None = None) -> list[StoredSchedule]:
    """Lock due schedules that nobody else has, the longest due first. Inside a transaction."""
    rows = await (await execute(conn, _SQL["claim"], {"limit": limit, "clock": clock})).fetchall()
    return [_stored(row) for row in rows]


async def due(conn: Connection) -> float | None:
    """Seconds until the next schedule is due, negative when it is overdue; None: there is none."""
    row = await (await execute(conn, _SQL["due"])).fetchone()
    return row[0] if row else None


async def busy(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the tasks and runs that are not final."""
    return {row[0] for row in await (await execute(conn, _SQL["busy"], {"ids": list(ids)})).fetchall()}


async def decide(conn: Connection, decided: Sequence[Decided]) -> None:
    """Store where locked schedules stand now."""
    params = {
        "ids": [d.id for d in decided],
        "marks": [d.mark for d in decided],
        "ticks": [d.next_tick for d in decided],
        "times": [d.next_at for d in decided],
        "lasts": [d.last_id for d in decided],
        "broken": [d.broken for d in decided],
    }
    await execute(conn, _SQL["decide"], params)


async def record(
    conn: Connection, made: Sequence[Making], skipped: Sequence[tuple[UUID, Skip]], cause: Cause = "tick"
) -> set[Tick]:
    """Write down what becomes of ticks. Returns those that were not decided before: only these may make something."""
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
    """The same for ticks of the past; one that was skipped fires after all, one that fired is left out."""
    params = {
        "ids": [m.stored.id for m in made],
        "ticks": [m.fire.tick for m in made],
        "tasks": [_task_id(m) for m in made],
        "runs": [_run_id(m) for m in made],
    }
    return set(await (await query(conn, _SQL["record_backfill"], params)).fetchall())


async def fired_among(conn: Connection, id: UUID, ticks: Sequence[datetime]) -> set[datetime]:
    """Those of the ticks that fired."""
    rows = await (await query(conn, _SQL["fired_among"], {"id": id, "ticks": list(ticks)})).fetchall()
    return {row[0] for row in rows}


async def has_made(conn: Connection, id: UUID, made: UUID) -> bool:
    """Whether the schedule made this task or run."""
    return await (await query(conn, _SQL["has_made"], {"id": id, "made": made})).fetchone() is not None


async def refuse(conn: Connection, making: Making, detail: str) -> None:
    """A recorded fire could not make what it should: it counts as skipped."""
    params = {"id": making.stored.id, "tick": making.fire.tick, "detail": detail}
    await query(conn, _SQL["refuse"], params)


async def get(conn: Connection, ref: Ref, *, clock: datetime | None = None) -> StoredSchedule | None:
    return await _one(conn, "get", ref, clock)


async def lock(conn: Connection, ref: Ref, *, clock: datetime | None = None) -> StoredSchedule | None:
    """The schedule, locked against daemons that would fire it. Inside a transaction."""
    return await _one(conn, "lock", ref, clock)


async def _one(conn: Connection, statement: str, ref: Ref, clock: datetime | None) -> StoredSchedule | None:
    by_name = isinstance(ref, str)
    params = {"name": ref if by_name else None, "id": None if by_name else ref, "clock": clock}
    row = await (await query(conn, _SQL[statement], params)).fetchone()
    return _stored(row) if row else None


async def page(
    conn: Connection, *, after: str = "", limit: int = 1000, clock: datetime | None = None
) -> list[StoredSchedule]:
    """The schedules in name order, from the first name after *after*."""
    rows = await (await query(conn, _SQL["list"], {"after": after, "limit": limit, "clock": clock})).fetchall()
    return [_stored(row) for row in rows]


async def names(conn: Connection) -> list[str]:
    """The names of the first 1,000 schedules."""
    return [row[0] for row in await (await query(conn, _SQL["names"])).fetchall()]


async def now(conn: Connection, *, clock: datetime | None = None) -> datetime:
    """The database's time."""
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
    """Store a new schedule with its next tick and when to act on it. False: its name or id is taken."""
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
    """Store another definition of a locked schedule; what was due before *now* will not fire."""
    params = {"id": id, "now": now, "next_tick": next[0], "next_at": next[1], **_columns(schedule)}
    await query(conn, _SQL["change"], params)


async def pause(conn: Connection, id: UUID) -> None:
    await query(conn, _SQL["pause"], {"id": id})


async def fired(conn: Connection, id: UUID, last: UUID) -> None:
    """A locked schedule made the task or run *last*."""
    await query(conn, _SQL["fired"], {"id": id, "last": last})


async def remove(conn: Connection, id: UUID) -> None:
    """Delete a schedule. What it made, and what became of its ticks, stays."""
    await query(conn, _SQL["remove"], {"id": id})


async def fires(conn: Connection, id: UUID, *, before: datetime = LAST_TICK, limit: int = 100) -> list[StoredFire]:
    """What became of the schedule's ticks before one, the latest first."""
    async with conn.cursor(row_factory=class_row(StoredFire)) as cursor:
        await cursor.execute(_SQL["fires"], {"id": id, "before": before, "limit": limit})
        return await cursor.fetchall()


async def late(conn: Connection, *, by: timedelta, limit: int = 100) -> list[tuple[str, timedelta]]:
    """Schedules that are overdue by more than *by*, the longest first, and by how much."""
    rows = await (await query(conn, _SQL["late"], {"by": by, "limit": limit})).fetchall()
    return [(name, timedelta(seconds=seconds)) for name, seconds in rows]


async def prune(conn: Connection, *, age: timedelta, limit: int) -> int:
    """Forget up to *limit* ticks that were decided longer ago than *age*. Returns how many."""
    row = await (await query(conn, _SQL["prune"], {"age": age, "limit": limit})).fetchone()
    return row[0] if row else 0


def decided(stored: StoredSchedule, decision: Decision) -> Decided:
    """What *decision* makes of where the schedule stands."""
    return Decided(
        id=stored.id,
        mark=decision.mark,
        next_tick=decision.next_tick,
        next_at=decision.next_at,
        last_id=decision.fires[-1].id if decision.fires else None,
    )


def _task_id(making: Making) -> UUID | None:
    return making.fire.id if making.stored.starts_task else None


def _run_id(making: Making) -> UUID | None:
    return None if making.stored.starts_task else making.fire.id


def _columns(schedule: Schedule) -> dict[str, Any]:
    target = schedule.target
    task = target if isinstance(target, TaskTarget) else None
    workflow = target if isinstance(target, WorkflowTarget) else None
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "seconds": schedule.seconds,
        "every": schedule.every,
        "at": schedule.at,
        "timezone": schedule.timezone,
        "type": task and task.type,
        "payload": to_json(task and task.payload),
        "queue": task.queue if task else "default",
        "priority": task.priority if task else 5,
        "max_retries": task and task.max_retries,
        "timeout": task and task.timeout,
        "workflow": workflow and workflow.workflow,
        "input": to_json(workflow and workflow.input),
        "misfire": schedule.misfire.value,
        "window": schedule.window,
        "cap": schedule.cap,
        "overlap": schedule.overlap.value,
        "jitter": schedule.jitter,
        "start": schedule.start,
        "end": schedule.end,
        "description": schedule.description,
        "filed_under": schedule.filed_under,
        "paused": schedule.paused,
    }


def _stored(row: tuple[Any, ...]) -> StoredSchedule:
    (
        id, name, cron, seconds, every, at, timezone, type_, payload, queue, priority, max_retries, timeout, workflow,
        input_, misfire, window, cap, overlap, jitter, start, end, description, filed_under, paused_at, mark, next_tick,
        next_at, last_id, broken, created_at, updated_at, read_at,
    ) = row  # fmt: skip
    target = (
        WorkflowTarget(workflow=workflow, input=input_)
        if type_ is None
        else TaskTarget(
            type=type_, payload=payload, queue=queue, priority=priority, max_retries=max_retries, timeout=timeout
        )
    )
    return StoredSchedule(
        id=id,
        schedule=Schedule(
            name=name,
            target=target,
            cron=cron,
            seconds=seconds,
            every=every,
            at=at,
            timezone=timezone,
            misfire=Misfire(misfire),
            window=window,
            cap=cap,
            overlap=Overlap(overlap),
            jitter=jitter,
            start=start,
            end=end,
            paused=paused_at is not None,
            description=description,
            filed_under=filed_under,
        ),
        paused_at=paused_at,
        mark=mark,
        next_tick=next_tick,
        next_at=next_at,
        last_id=last_id,
        broken=broken,
        created_at=created_at,
        updated_at=updated_at,
        read_at=read_at,
    )
