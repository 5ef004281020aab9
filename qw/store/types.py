"""The task types registered by daemons."""

from __future__ import annotations

from collections.abc import Mapping

from qw import sql
from qw.core.task import Policy
from qw.core.task.payload import JsonObject
from qw.store.connection import Connection, query, to_json

_SQL = sql.statements("type")


async def serve(conn: Connection, types: Mapping[str, tuple[JsonObject | None, Policy]]) -> None:
    """Register types with their payload schemas and policies."""
    names = sorted(types)
    params = {
        "names": names,
        "schemas": [to_json(types[name][0]) for name in names],
        "max_retries": [types[name][1].max_retries for name in names],
        "timeouts": [types[name][1].timeout for name in names],
    }
    await query(conn, _SQL["serve"], params)


async def schemas(conn: Connection) -> dict[str, JsonObject | None]:
    """Return the payload schemas of all types that a daemon has registered, by type; None: any payload."""
    row = await (await query(conn, _SQL["schemas"])).fetchone()
    assert row is not None
    by_type: dict[str, JsonObject | None] = row[0]
    return by_type


async def names(conn: Connection) -> list[str]:
    """Return all types that a daemon has registered."""
    return [row[0] for row in await (await query(conn, _SQL["names"])).fetchall()]
