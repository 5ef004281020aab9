"""The history behind charts: sample, read, prune. Measurements are added by `qw.store.measures.add`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from qw import sql
from qw.core.history import HOURS_KEPT, MINUTES_KEPT, Sample
from qw.core.task.measure import Measure
from qw.store.connection import Connection, query

_SQL = sql.statements("history")


class Recent(NamedTuple):
    """The attempts that ended a task of a queue ("": all) in one minute since 1970, and how many of them failed."""

    queue: str
    minute: int
    ended: int
    failed: int


class EnqueuedCount(NamedTuple):
    """The number of tasks ever enqueued in a queue ("": all) up to some seconds ago."""

    queue: str
    total: int
    seconds_ago: float


async def sample(conn: Connection) -> None:
    """Store the state of every queue, unless a daemon did so in this minute."""
    row = await (await query(conn, _SQL["is_due"])).fetchone()
    if row and row[0]:
        await query(conn, _SQL["sample"])


async def measured(
    conn: Connection, queue: str, *, span: str, step: timedelta, since: datetime, until: datetime
) -> list[tuple[int, Measure]]:
    """Return measurements with the start of their time step in seconds since 1970. Labels: queue and result."""
    params = {"queue": queue, "span": span, "step": int(step.total_seconds()), "since": since, "until": until}
    rows = await (await query(conn, _SQL["measured"], params)).fetchall()
    return [(at, Measure(name, (queue, result), tuple(counts), total)) for at, name, result, counts, total in rows]


async def sampled(conn: Connection, queue: str, *, span: str, since: datetime, until: datetime) -> list[Sample]:
    """Return the state of a queue at its sample times, oldest first."""
    params = {"queue": queue, "span": span, "since": since, "until": until}
    return [Sample(*row) for row in await (await query(conn, _SQL["sampled"], params)).fetchall()]


async def recent(conn: Connection, *, since: int) -> list[Recent]:
    """Return the attempts that ended a task since a time, given in seconds since 1970."""
    return [Recent(*row) for row in await (await query(conn, _SQL["recent"], {"since": since})).fetchall()]


async def enqueued_before(conn: Connection, *, seconds: int) -> Sequence[EnqueuedCount]:
    """Return by queue ("": all) the tasks ever enqueued, as of the newest sample at least *seconds* old."""
    rows = await (await query(conn, _SQL["enqueued_before"], {"seconds": seconds})).fetchall()
    return [EnqueuedCount(*row) for row in rows]


async def prune(conn: Connection, *, more: timedelta, limit: int) -> int:
    """Delete up to *limit* rows of each table that exceed their retention by *more*. Return the larger count."""
    params = {"minutes": MINUTES_KEPT + more, "hours": HOURS_KEPT + more, "limit": limit}
    row = await (await query(conn, _SQL["prune"], params)).fetchone()
    return row[0] if row else 0
