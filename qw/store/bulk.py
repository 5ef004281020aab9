"""Bulk actions on many tasks in the background: start, follow, stop, prune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from psycopg.types.json import Jsonb

from qw import sql
from qw.store.connection import Connection, query

_SQL = sql.statements("bulk")

SILENCE_SECONDS = 15  # without progress: then its process must have ended


@dataclass(frozen=True, kw_only=True)
class BulkState:
    """``ids``: the number of ids given; None: all matches of ``search``. ``skipped``: task counts by reason.

    ``state``: running, done, stopped, failed (see ``error``), or interrupted: its process ended.
    """

    id: int
    action: str
    search: str | None
    ids: int | None
    by: str
    state: str
    matched: int
    is_estimate: bool
    done: int
    skipped: Mapping[str, int]
    started_at: datetime
    finished_at: datetime | None
    error: str | None


_FIELDS = [*BulkState.__dataclass_fields__]


async def start(
    conn: Connection,
    *,
    action: str,
    search: str | None,
    ids: Sequence[UUID] | None,
    running: bool,
    reason: str,
    by: str,
    matched: int,
    is_estimate: bool,
) -> int:
    params = {
        "action": action, "search": search, "ids": None if ids is None else list(ids), "running": running,
        "reason": reason, "by": by, "matched": matched, "is_estimate": is_estimate,
    }  # fmt: skip
    row = await (await query(conn, _SQL["start"], params)).fetchone()
    assert row is not None
    return cast("int", row[0])


async def progress(conn: Connection, id: int, *, done: int, skipped: Mapping[str, int]) -> bool:
    """Store the progress. Return True if a stop was requested."""
    row = await (
        await query(conn, _SQL["progress"], {"id": id, "done": done, "skipped": Jsonb(dict(skipped))})
    ).fetchone()
    return row is None or bool(row[0])


async def finish(conn: Connection, id: int, state: str, error: str | None = None) -> None:
    await query(conn, _SQL["finish"], {"id": id, "state": state, "error": error})


async def stop(conn: Connection, id: int) -> bool:
    """Request a stop. Return False if the action has ended."""
    return await (await query(conn, _SQL["stop"], {"id": id})).fetchone() is not None


async def find(conn: Connection, *, id: int | None = None, limit: int = 100) -> list[BulkState]:
    """Return the newest bulk actions, or the one with the given id."""
    params = {"id": id, "limit": limit, "silence": SILENCE_SECONDS}
    rows = await (await query(conn, _SQL["find"], params)).fetchall()
    return [BulkState(**dict(zip(_FIELDS, row, strict=True))) for row in rows]


async def prune(conn: Connection, *, age: timedelta, limit: int) -> int:
    row = await (await query(conn, _SQL["prune"], {"age": age, "limit": limit})).fetchone()
    return row[0] if row else 0
