"""Queues: pause, resume, limits; and the queries of the admitter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg.rows import class_row, dict_row

from qw import sql
from qw.core.queue.limits import Limits, Rate
from qw.core.task import Lane
from qw.store.connection import Connection, execute, query

_SQL = sql.statements("queue")
_OVERVIEW = sql.statements("overview")


@dataclass(frozen=True, kw_only=True)
class PausedQueue:
    """A paused queue: its tasks are not claimed."""

    name: str
    paused_at: datetime
    paused_by: str | None


async def paused(conn: Connection) -> list[PausedQueue]:
    """Return the paused queues, in name order."""
    async with conn.cursor(row_factory=class_row(PausedQueue)) as cursor:
        await cursor.execute(_SQL["paused"])
        return await cursor.fetchall()


async def pause(conn: Connection, name: str, *, by: str) -> None:
    """Stop claims from the queue; running tasks continue. Idempotent: the first pause is kept."""
    await query(conn, _SQL["pause"], {"name": name, "by": by})


async def resume(conn: Connection, name: str) -> bool:
    """Allow claims from the queue again. Return False if it was not paused."""
    row = await (await query(conn, _SQL["resume"], {"name": name})).fetchone()
    if row is not None:
        await query(conn, _SQL["wake"], {"name": name})
    return row is not None


async def oldest(conn: Connection) -> dict[str, timedelta]:
    """Return the age of the task at the head of each queue, including tasks that a limit holds back.

    Queues that are paused or have no waiting task are left out.
    """
    rows = await (await query(conn, _OVERVIEW["oldest"])).fetchall()
    return {queue: timedelta(seconds=seconds) for queue, seconds in rows}


class Limited(NamedTuple):
    """A queue for the admitter. Not ``is_limited``: its limits were removed, but tasks are still held."""

    queue: str
    is_limited: bool
    has_held: bool


class Admitted(NamedTuple):
    """The result of a pass of an admitter; see qw.admit. ``seconds``: until an exhausted rate admits more."""

    moved: int
    lanes: list[Lane]
    next_place: str
    more: bool
    seconds: float | None
    has_held: bool


async def limits(conn: Connection) -> dict[str, Limits]:
    """Return the limits of the limited queues, in name order."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["limits"])
        return {row["name"]: limits_of_row(row) for row in await cursor.fetchall()}


def limits_of_row(row: Mapping[str, Any]) -> Limits:
    """Return the limits in a row of qw.queue."""
    return Limits(
        concurrency=row["concurrency"],
        rate=_rate(row["rate"], row["rate_period"]),
        key=row["key"],
        per_key=row["per_key"],
        per_key_rate=_rate(row["key_rate"], row["key_rate_period"]),
    )


def _rate(count: int | None, period: timedelta | None) -> Rate | None:
    return None if count is None or period is None else Rate(count=count, period=period)


async def set_limits(conn: Connection, name: str, new: Limits | None) -> None:
    """Set the limits of a queue; None: none. `hold` and `release` apply them to existing tasks. Idempotent."""
    limits = new or Limits()
    params = {
        "name": name,
        "concurrency": limits.concurrency,
        "rate": limits.rate and limits.rate.count,
        "rate_period": limits.rate and limits.rate.period,
        "key": limits.key,
        "per_key": limits.per_key,
        "key_rate": limits.per_key_rate and limits.per_key_rate.count,
        "key_rate_period": limits.per_key_rate and limits.per_key_rate.period,
    }
    await query(conn, _SQL["set_limits"], params)


async def hold(conn: Connection, name: str, *, limit: int) -> int:
    """Put up to *limit* waiting tasks of a limited queue under its limits. Return the number; 0: none are left."""
    return await _moved(conn, "hold", name, limit)


async def release(conn: Connection, name: str, *, limit: int) -> int:
    """Release up to *limit* held tasks of a queue without limits. Return the number; 0: none are left."""
    return await _moved(conn, "release", name, limit)


async def _moved(conn: Connection, verb: str, name: str, limit: int) -> int:
    row = await (await execute(conn, _SQL[verb], {"name": name, "limit": limit})).fetchone()
    return row[0] if row else 0


async def held(conn: Connection) -> list[Limited]:
    """Return the queues for the admitter."""
    return [Limited._make(row) for row in await (await execute(conn, _SQL["held"])).fetchall()]


async def admit(conn: Connection, name: str, *, limit: int, place: str) -> Admitted:
    """Admit up to *limit* tasks as the limits of a queue allow, round-robin over its keys, starting at *place*."""
    row = await (await execute(conn, _SQL["admit"], {"name": name, "limit": limit, "place": place})).fetchone()
    assert row is not None
    moved, priorities, *rest = row
    return Admitted(moved, [Lane(name, priority) for priority in priorities or ()], *rest)


async def prune_rates(conn: Connection, *, limit: int) -> int:
    """Delete up to *limit* unused buckets. Return the number deleted."""
    row = await (await query(conn, _SQL["prune_rates"], {"limit": limit})).fetchone()
    return row[0] if row else 0


async def clamp_rates(conn: Connection) -> int:
    """Correct buckets after the clock was set back: none takes longer than its period. Return the number corrected."""
    return (await query(conn, _SQL["clamp_rates"])).rowcount
