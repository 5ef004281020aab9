"""The history of applied definitions: which set of files owns each, and who applied it when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from psycopg.rows import class_row

from qw import sql
from qw.core.task.payload import Json, JsonObject
from qw.store.connection import Connection, query, to_json

_SQL = sql.statements("apply")


class How(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    LEFT = "left"  # no file of the set defines it any more; it stays, because prune was not given


class Owned(NamedTuple):
    """A definition and the owner that applied it last. Kinds: workflow, schedule, queue, webhook, command."""

    kind: str
    name: str
    owner: str
    document: JsonObject


@dataclass(frozen=True, kw_only=True)
class Applied:
    """One entry of the apply history."""

    id: int
    owner: str
    by: str
    at: datetime
    changes: Json


async def lock(conn: Connection) -> None:
    """Lock against concurrent applies until the end of the transaction."""
    await query(conn, _SQL["lock"])


async def owned(conn: Connection) -> list[Owned]:
    """Return all definitions applied from files."""
    return [Owned._make(row) for row in await (await query(conn, _SQL["owned"])).fetchall()]


async def of_kind(conn: Connection, kind: str) -> dict[str, JsonObject]:
    """Return the documents of the applied definitions of a kind, by name."""
    return dict(await (await query(conn, _SQL["of_kind"], {"kind": kind})).fetchall())


async def one(conn: Connection, kind: str, name: str) -> JsonObject | None:
    """Return the document of a definition; None: it was not applied."""
    row = await (await query(conn, _SQL["one"], {"kind": kind, "name": name})).fetchone()
    return row[0] if row else None


async def own(conn: Connection, definitions: Sequence[Owned]) -> None:
    """Set the owners of these definitions."""
    params = {
        "kinds": [definition.kind for definition in definitions],
        "names": [definition.name for definition in definitions],
        "owners": [definition.owner for definition in definitions],
        "documents": [to_json(definition.document) for definition in definitions],
    }
    await query(conn, _SQL["own"], params)


async def disown(conn: Connection, kind: str, name: str) -> None:
    """Delete the ownership row of a definition; webhooks and commands have no other row."""
    await query(conn, _SQL["disown"], {"kind": kind, "name": name})


async def remove_workflow(conn: Connection, name: str) -> None:
    """Delete a workflow; its runs, and runs with steps that start it, continue."""
    await query(conn, _SQL["remove_workflow"], {"name": name})


async def schedules(conn: Connection) -> list[tuple[str, str | None, str | None]]:
    """Return schedules that start a workflow or a declared command: name, workflow and command."""
    return [(row[0], row[1], row[2]) for row in await (await query(conn, _SQL["schedules"])).fetchall()]


async def open_runs(conn: Connection) -> list[tuple[str, int, JsonObject]]:
    """Return the number of open runs by workflow version, with its definition."""
    return [(row[0], row[1], row[2]) for row in await (await query(conn, _SQL["open_runs"])).fetchall()]


async def record(conn: Connection, *, owner: str, by: str, changes: Json) -> None:
    """Add an entry to the history."""
    await query(conn, _SQL["record"], {"owner": owner, "by": by, "changes": to_json(changes)})


async def history(conn: Connection, *, limit: int) -> list[Applied]:
    """Return the history, newest first."""
    async with conn.cursor(row_factory=class_row(Applied)) as cursor:
        await cursor.execute(_SQL["history"], {"limit": limit})
        return await cursor.fetchall()


async def prune(conn: Connection, *, age: timedelta, keep: int, limit: int) -> int:
    """Delete up to *limit* history entries older than *age*, except the last *keep*. Return the number deleted."""
    row = await (await query(conn, _SQL["prune"], {"age": age, "keep": keep, "limit": limit})).fetchone()
    return row[0] if row else 0
