"""Rights of roles other than the schema owner: grant, revoke, list, and explain missing ones.

`qw.core.rights` defines what each right consists of. Grants are recorded in PostgreSQL's own privileges, on the
functions ``qw.may_…``. So they are part of a dump, end with a dropped role, and `renew` can extend them to the tables
and functions that a migration added.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql as composing

from qw import sql
from qw.core.errors import Denied, LacksRight
from qw.core.rights import EXCLUSIVE, OWNERS_FUNCTIONS, SEQUENCES, WRITES, Right, needed_for
from qw.store.sessions import Connection

_SQL = sql.statements("right")


async def granting(conn: Connection, role: str, right: Right) -> list[str]:
    """Return the statements that grant *role* the *right*. Idempotent."""
    name = composing.Identifier(role)
    parts = [_to(name, "usage", "schema qw"), _to(name, "select", "qw.migration")]
    parts.append(_to(name, "execute", f"function qw.may_{right}"))
    functions = await (await conn.execute(_SQL["functions"])).fetchall()
    parts += [_to(name, "execute", f"function qw.{function}") for function in _functions(functions, right)]
    if Right.READ in right.includes:
        relations = await (await conn.execute(_SQL["relations"])).fetchall()
        parts += [_to(name, "select", f"qw.{relation}") for (relation,) in relations]
    parts += [_to(name, privileges, f"qw.{table}") for table, privileges in WRITES[right].items()]
    parts += [_to(name, "usage, select", f"sequence qw.{sequence}") for sequence in SEQUENCES.get(right, ())]
    return [part.as_string(conn) for part in parts]


async def revoking(conn: Connection, role: str, right: Right) -> list[str]:
    """Return the statements that revoke the *right* from *role* and keep its other rights."""
    name = composing.Identifier(role)
    parts = [
        composing.SQL("revoke all on all {} in schema qw from {}").format(composing.SQL(what), name)
        for what in ("tables", "sequences", "functions")
    ]
    parts.append(composing.SQL("revoke usage on schema qw from {}").format(name))
    statements = [part.as_string(conn) for part in parts]
    for kept in (await granted(conn)).get(role, []):
        if kept is not right:
            statements += await granting(conn, role, kept)
    return statements


async def run(conn: Connection, statements: Sequence[str]) -> None:
    """Run statements of `granting` or `revoking` in one transaction. Raise LacksRight unless we own the schema."""
    row = await (await conn.execute(_SQL["owner"])).fetchone()
    if row is not None and not row[2]:  # PostgreSQL would only warn that nothing was granted
        raise LacksRight(role=row[0], right=None, reason=f"it belongs to {row[1]}")
    async with conn.transaction():
        for statement in statements:
            await conn.execute(statement.encode())


async def granted(conn: Connection) -> dict[str, list[Right]]:
    """Return the granted rights by role, in name order."""
    rights: dict[str, list[Right]] = {}
    for role, name in await (await conn.execute(_SQL["granted"])).fetchall():
        rights.setdefault(role, []).append(Right(name))
    return rights


async def renew(conn: Connection) -> None:
    """Repeat all grants, for tables and functions added since; PUBLIC gets nothing."""
    await conn.execute("revoke all on all functions in schema qw from public")
    for role, rights in (await granted(conn)).items():
        for right in rights:
            await run(conn, await granting(conn, role, right))


async def require(conn: Connection, right: Literal[Right.OPERATE, Right.WORK]) -> None:
    """Raise LacksRight unless this session's role has the *right*; used where other rights allow only a part."""
    await conn.execute(_SQL["may_work" if right is Right.WORK else "may_operate"])


async def lacking(conn: Connection, error: Denied) -> Denied:
    """Return *error* with the right that the session's role needs; unchanged if that cannot be determined."""
    match = re.search(r"permission denied for (\w+) \"?(?:qw\.)?(\w+)", str(error))
    if match is None or conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        return error
    row = await (await conn.execute(_SQL["held"])).fetchone()
    assert row is not None
    held = {part for name in row[1] for part in Right(name).includes}
    right = needed_for(match[1], match[2], held)
    return LacksRight(role=row[0], right=right and right.value, held=held, reason=str(error))


@dataclass(frozen=True)
class Access:
    """What a session's role may do to tables. Without these rights, it calls functions that do less and check more."""

    writes: bool
    reads: bool


async def access(conn: Connection) -> Access:
    """Return the access of the session's role. Queried once per connection."""
    if (known := _ACCESS.get(conn)) is None:
        row = await (await conn.execute(_SQL["access"])).fetchone()
        assert row is not None
        _ACCESS[conn] = known = Access(*row)
    return known


_ACCESS: WeakKeyDictionary[Connection, Access] = WeakKeyDictionary()


def _functions(known: Sequence[tuple[str, bool]], right: Right) -> list[str]:
    """Return the functions that *right* may call. *known*: names, and whether each runs with its owner's rights."""
    owners = {name for part in right.includes for name in OWNERS_FUNCTIONS[part]}
    callers = Right.READ in right.includes
    return [
        name
        for name, is_owners in known
        if name in owners or (callers and not is_owners and EXCLUSIVE.get(name, right) is right)
    ]


def _to(role: composing.Identifier, privilege: str, what: str) -> composing.Composed:
    return composing.SQL("grant {} on {} to {}").format(composing.SQL(privilege), composing.SQL(what), role)
