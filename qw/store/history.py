"""The history behind charts: sample, read, prune. What was measured is added with `qw.store.measures.add`."""

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
    """Attempts of a queue (empty: all) that ended for good within a minute since 1970, and how many of them failed."""

    queue: str
    minute: int
    ended: int
    failed: int


class EnqueuedCount(NamedTuple):
    """How many tasks a queue (empty: all) had ever got, some seconds ago."""

    queue: str
    total: int
    seconds_ago: float


async def sample(conn: Connection) -> None:
    """Store the state of every queue, unless a daemon did within this minute."""
    row = await (await query(conn, _SQL["is_due"])).fetchone()
    if row and row[0]:
        await query(conn, _SQL["sample"])


async def measured(
    conn: Connection, queue: str, *, span: str, step: timedelta, since: datetime, until: datetime
) -> list[tuple[int, Measure]]:
    """What was measured, with the beginning of its step in seconds since 1970. Labels: queue and result."""
    params = {"queue": queue, "span": span, "step": int(step.total_seconds()), "since": since, "until": until}
    rows = await (await query(conn, _SQL["measured"], params)).fetchall()
    return [(at, Measure(name, (queue, result), tuple(counts), total)) for at, name, result, counts, total in rows]


async def sampled(conn: Connection, queue: str, *, span: str, since: datetime, until: datetime) -> list[Sample]:
    """The state of a queue at the times it was sampled, oldest first."""
    params = {"queue": queue, "span": span, "since": since, "until": until}
    return [Sample(*row) for row in await (await query(conn, _SQL["sampled"], params)).fetchall()]


async def recent(conn: Connection, *, since: int) -> list[Recent]:
    """What ended since a time, in seconds since 1970."""
    return [Recent(*row) for row in await (await query(conn, _SQL["recent"], {"since": since})).fetchall()]


async def enqueued_before(conn: Connection, *, seconds: int) -> Sequence[EnqueuedCount]:
    """By queue (empty: all): how many tasks it had got at the last sample that is so old."""
    rows = await (await query(conn, _SQL["enqueued_before"], {"seconds": seconds})).fetchall()
    return [EnqueuedCount(*row) for row in rows]


async def prune(conn: Connection, *, more: timedelta, limit: int) -> int:
    """Delete up to *limit* rows that are past their retention, and *more*. Return the number deleted."""
    params = {"minutes": MINUTES_KEPT + more, "hours": HOURS_KEPT + more, "limit": limit}
    row = await (await query(conn, _SQL["prune"], params)).fetchone()
    return row[0] if row else 0
