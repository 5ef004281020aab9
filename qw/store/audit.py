"""The audit log: who did what, when, and with which outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from qw import sql
from qw.store.connection import Connection, query

_SQL = sql.statements("audit")

LAST_ENTRY = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """``via``: cli, http, dashboard, python or sql. ``target``: an id, a name, or the filter that was used.

    ``count``: the number of objects changed, if counted. ``outcome``: done, or refused (``detail``: why).
    """

    id: int
    at: datetime
    actor: str
    via: str
    verb: str
    target: str
    count: int | None
    outcome: str
    detail: str | None


async def add(
    conn: Connection,
    *,
    actor: str | None,
    via: str,
    verb: str,
    target: str,
    count: int | None,
    outcome: str,
    detail: str | None,
) -> None:
    """Add an entry. Without *actor*, the actor is the role of the session."""
    params = {
        "actor": actor, "via": via, "verb": verb, "target": target, "count": count, "outcome": outcome,
        "detail": detail,
    }  # fmt: skip
    await query(conn, _SQL["add"], params)


async def find(
    conn: Connection,
    *,
    before: int = LAST_ENTRY,
    limit: int = 100,
    actor: str | None = None,
    verb: str | None = None,
    via: str | None = None,
    since: datetime | None = None,
) -> list[AuditEntry]:
    """Return entries, newest first. *verb*: ``task retry``, or ``task`` for all verbs of tasks."""
    params = {"before": before, "limit": limit, "actor": actor, "verb": verb, "via": via, "since": since}
    async with conn.cursor(row_factory=class_row(AuditEntry)) as cursor:
        await cursor.execute(_SQL["find"], params)
        return await cursor.fetchall()


async def prune(conn: Connection, *, age: timedelta, limit: int) -> int:
    row = await (await query(conn, _SQL["prune"], {"age": age, "limit": limit})).fetchone()
    return row[0] if row else 0
