"""Rights on the public SQL of qw, for roles that are not its owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from psycopg import sql

from qw.store.connection import Connection


class Right(StrEnum):
    """Each includes what those before it may."""

    READ = "read"
    ENQUEUE = "enqueue"
    OPERATE = "operate"


_FUNCTIONS: Mapping[Right, Sequence[str]] = {
    Right.READ: (),
    Right.ENQUEUE: ("enqueue",),
    Right.OPERATE: ("cancel", "retry", "signal", "schedule_add", "schedule_remove"),
}


async def statements(conn: Connection, role: str, right: Right) -> list[str]:
    """The statements that give *role* the *right*, as text."""
    name = sql.Identifier(role)
    parts: list[sql.Composed] = [
        sql.SQL("grant usage on schema qw to {}").format(name),
        sql.SQL("grant select on qw.tasks to {}").format(name),
    ]
    for each in Right:
        for function in _FUNCTIONS[each]:
            parts.append(sql.SQL("grant execute on function {} to {}").format(sql.SQL(f"qw.{function}"), name))
        if each is right:
            break
    return [part.as_string(conn) for part in parts]


async def grant(conn: Connection, given: Sequence[str]) -> None:
    """Run statements of `statements`, all or none."""
    async with conn.transaction():
        for statement in given:
            await conn.execute(statement.encode())
