"""Queues as operators handle them: paused and resumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from qw import sql
from qw.store.connection import Connection, query

_SQL = sql.statements("queue")
_OVERVIEW = sql.statements("overview")


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A queue from which nothing is claimed."""

    name: str
    paused_at: datetime
    paused_by: str | None


async def paused(conn: Connection) -> list[Pause]:
    """The queues that are paused, in name order."""
    async with conn.cursor(row_factory=class_row(Pause)) as cursor:
        await cursor.execute(_SQL["paused"])
        return await cursor.fetchall()


async def pause(conn: Connection, name: str, *, by: str) -> None:
    """Let nothing more be claimed from the queue; what runs goes on. Safe to repeat: the first pause stands."""
    await query(conn, _SQL["pause"], {"name": name, "by": by})


async def resume(conn: Connection, name: str) -> bool:
    """Let the queue's tasks be claimed again. False: it was not paused."""
    row = await (await query(conn, _SQL["resume"], {"name": name})).fetchone()
    if row is not None:
        await query(conn, _SQL["wake"], {"name": name})
    return row is not None


async def oldest(conn: Connection) -> dict[str, timedelta]:
    """How long the task at the head of each queue has been there. Queues with nothing to claim are left out."""
    rows = await (await query(conn, _OVERVIEW["oldest"])).fetchall()
    return {queue: timedelta(seconds=seconds) for queue, seconds in rows}
