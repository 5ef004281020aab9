"""`Client.rights`: the rights of database roles that do not own the schema."""

from __future__ import annotations

from qw.client.connections import Namespace
from qw.core.errors import Conflict, Invalid, guess
from qw.core.rights import Right
from qw.store import grants


class Rights(Namespace):
    """Grants, revokes and lists rights: sets of PostgreSQL privileges on tables and functions of schema qw."""

    async def grant(self, role: str, right: str, *, dry_run: bool = False) -> list[str]:
        """Grant *role* a `Right`. Return the SQL statements; *dry_run* does not execute them."""
        wanted = _right(right)
        async with self._db.connection() as conn:
            statements = await grants.granting(conn, role, wanted)
            if not dry_run:
                await grants.run(conn, statements)
        return statements

    async def revoke(self, role: str, right: str, *, dry_run: bool = False) -> list[str]:
        """Revoke a `Right` from *role*; its other rights stay. Raise Conflict if it was not granted."""
        unwanted = _right(right)
        async with self._db.connection() as conn:
            has = (await grants.granted(conn)).get(role, [])
            if unwanted not in has and not dry_run:
                including = [right for right in has if unwanted in right.includes]
                hint = f"; its right {including[0].value!r} includes that" if including else ""
                raise Conflict(f"role {role} was not granted {right!r}{hint}")
            statements = await grants.revoking(conn, role, unwanted)
            if not dry_run:
                await grants.run(conn, statements)
        return statements

    async def granted(self) -> dict[str, list[Right]]:
        """Return the granted rights by role, in name order."""
        async with self._db.connection() as conn:
            return await grants.granted(conn)


def _right(name: str) -> Right:
    if name not in set(Right):
        raise Invalid(f"{name[:60]!r} is not a right; valid rights: {', '.join(Right)}{guess(name, Right)}")
    return Right(name)
