"""The checks of `qw doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.rows import dict_row

from qw import sql
from qw.core.schedule.fire_decision import LATE
from qw.store import events, schedules, workers
from qw.store.connection import Connection, connect, is_pooled, query, translated
from qw.store.events import Blocked, ConsumerState, RelayState
from qw.store.workers import WorkerRow

_SQL = sql.statements("doctor")
_CHANNEL = "qw_doctor"
_LISTEN_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """The server and the activity of the database. ``skew``: how far its clock is ahead of this process's clock.

    ``hidden``: sessions of other roles, of whose transactions this role sees nothing.
    """

    version: int
    is_writable: bool
    skew: timedelta
    oldest_transaction: timedelta
    hidden: int
    bytes: int
    is_pooled: bool


@dataclass(frozen=True, kw_only=True)
class WorkFacts:
    """Waiting tasks by queue and type, workers, late schedules, and tables with too many dead rows.

    Also the events that cannot be published, and the states of relays and consumers.
    """

    waiting: Sequence[tuple[str, str]]
    workers: Sequence[WorkerRow]
    late: Sequence[tuple[str, timedelta]]
    dead: Sequence[tuple[str, int]]
    blocked: Blocked
    brokers: Sequence[RelayState | ConsumerState]


async def server(url: str) -> ServerFacts:
    conn = await connect(url, name="qw doctor")
    async with conn:
        with translated():
            row, skew = await _timed(conn)
            return ServerFacts(
                version=row["version"],
                is_writable=not row["is_standby"] and not row["is_read_only"],
                skew=skew,
                oldest_transaction=timedelta(seconds=row["transaction_seconds"]),
                hidden=row["hidden"],
                bytes=row["bytes"],
                is_pooled=await is_pooled(conn),
            )


async def work(url: str) -> WorkFacts:
    """Return the facts about the work. The database must have the schema."""
    conn = await connect(url, name="qw doctor")
    async with conn:
        with translated():
            return WorkFacts(
                waiting=[(row[0], row[1]) for row in await (await query(conn, _SQL["waiting"])).fetchall()],
                workers=await workers.living(conn),
                late=await schedules.late(conn, by=LATE),
                dead=[(row[0], row[1]) for row in await (await query(conn, _SQL["dead"])).fetchall()],
                blocked=await events.blocked(conn),
                brokers=[*await events.states(conn), *await events.consumers(conn)],
            )


async def hears(url: str) -> bool:
    """Whether a NOTIFY arrives; behind a pooler it does not."""
    conn = await connect(url, name="qw doctor")
    async with conn:
        with translated():
            await conn.execute(f"listen {_CHANNEL}")
            await conn.execute(f"notify {_CHANNEL}")
            async for _ in conn.notifies(timeout=_LISTEN_SECONDS, stop_after=1):
                return True
    return False


async def _timed(conn: Connection) -> tuple[dict[str, Any], timedelta]:
    """Run the query. Return its row, and how far the server's clock is ahead of the midpoint of the query."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        asked = datetime.now(UTC)
        await cursor.execute(_SQL["server"])
        row = await cursor.fetchone()
    answered = datetime.now(UTC)
    assert row is not None
    return row, row["now"] - (asked + (answered - asked) / 2)
