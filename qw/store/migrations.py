"""Migrates a database to the schema that this version of qw needs: numbered files, forward only, a transaction each.

A migration *expands* the schema if it keeps everything that an older qw uses: programs of that version start and work
on the new schema. A migration that removes what the previous minor version no longer uses starts with ``-- contract``;
programs that do not know it are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import LiteralString

from qw._version import __version__
from qw.core.errors import Denied, Misconfigured, Unavailable
from qw.store import grants
from qw.store.connection import Connection, connect, explained, translated

_LOCK = "select pg_advisory_xact_lock(7177, 0)"
_TRIES = 15  # attempts of 2 s each to lock a table


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A migration. ``applied_at``: None while it has not been applied."""

    version: int
    name: str
    text: str
    applied_at: datetime | None = None

    @property
    def expands(self) -> bool:
        """Whether programs that do not know this migration work with its schema."""
        return not self.text.startswith("-- contract")


@cache
def known() -> tuple[Migration, ...]:
    """Return the migrations that come with this version of qw, in order."""
    return tuple(
        Migration(version=int(file.name[:4]), name=file.name.removesuffix(".sql"), text=file.read_text("utf-8"))
        for file in sorted(_folder().iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    )


def _folder() -> Traversable:
    shipped = files("qw") / "migrations"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "migrations"


async def status(url: str) -> list[Migration]:
    """Return the known migrations and when they were applied. Raise Misconfigured if a newer qw removed things."""
    conn = await connect(url, name="qw migrate")
    async with conn:
        try:
            with translated():
                return await _status(conn)
        except Denied as error:
            raise await explained(conn, error) from error


async def migrate(url: str) -> list[Migration]:
    """Apply the missing migrations and return them. Safe to run from many processes at once, and after a kill."""
    conn = await connect(url, name="qw migrate")
    async with conn:
        try:
            with translated():
                if not missing(await _status(conn)):
                    return []  # up to date: no right to change the schema is needed
            return [done for migration in known() if (done := await _apply(conn, migration))]
        except Denied as error:
            raise Denied(str(error), remedy=await _remedy(conn)) from error


async def newest(conn: Connection) -> str | None:
    """Return the name of the newest applied migration."""
    row = await (await conn.execute("select name from qw.migration order by version desc limit 1")).fetchone()
    return row[0] if row else None


def missing(status: Sequence[Migration]) -> list[Migration]:
    return [migration for migration in status if migration.applied_at is None]


async def check(url: str) -> None:
    """Raise Misconfigured unless the schema fits this version of qw."""
    migrations = await status(url)
    lacking = missing(migrations)
    if len(lacking) == len(migrations):
        raise Misconfigured("this database has no qw schema; create it with: qw db migrate")
    if lacking:
        names = ", ".join(migration.name for migration in lacking)
        raise Misconfigured(f"the schema in this database is older than this qw (missing: {names}); run: qw db migrate")


async def _status(conn: Connection) -> list[Migration]:
    applied: dict[int, tuple[str, str, datetime]] = {}
    newer: list[int] = []
    if await _exists(conn, _TABLE):
        rows = await (await conn.execute(_APPLIED)).fetchall()
        applied = {version: (name, digest, at) for version, name, digest, at, _ in rows}
        versions = {migration.version for migration in known()}
        newer = [version for version, *_, expands in rows if version not in versions and not expands]
    if newer:
        raise Misconfigured(
            f"the database has schema version {newer[-1]}, made by a newer qw; this one knows {len(known())}:"
            f" upgrade qw here (this is {__version__})"
        )
    for migration in known():
        if migration.version in applied and applied[migration.version][1] != _digest(migration):
            raise Misconfigured(
                f"{migration.name} in the database differs from the one in this qw; start from an empty database"
            )
    return [
        Migration(
            version=m.version,
            name=m.name,
            text=m.text,
            applied_at=applied[m.version][2] if m.version in applied else None,
        )
        for m in known()
    ]


async def _apply(conn: Connection, migration: Migration) -> Migration | None:
    for attempt in range(1, _TRIES + 1):
        try:
            with translated():
                return await _apply_once(conn, migration)
        except Unavailable:
            if conn.closed or attempt == _TRIES:
                raise
    return None


async def _apply_once(conn: Connection, migration: Migration) -> Migration | None:
    async with conn.transaction():
        await conn.execute("set local lock_timeout = '2s'")
        await conn.execute(_LOCK)
        await conn.execute("set local client_min_messages = warning")
        if any(m.applied_at for m in await _status(conn) if m.version == migration.version):
            return None
        if not await _exists(conn, _SCHEMA):  # IF NOT EXISTS needs the right to create even if it exists
            await conn.execute("create schema qw")
        if not await _exists(conn, _TABLE):
            await conn.execute(
                "create table qw.migration (version integer primary key, name text not null, digest text not null,"
                " applied_at timestamptz not null default now(), expands boolean not null default false)"
            )
        await conn.execute(migration.text)
        await conn.execute(
            "insert into qw.migration (version, name, digest, expands) values (%s, %s, %s, %s)",
            (migration.version, migration.name, _digest(migration), migration.expands),
        )
        await grants.renew(conn)
    return migration


_APPLIED = "select version, name, digest, applied_at, expands from qw.migration order by version"

# Read from the tables themselves: to_regclass uses a cache that may lack what was committed while this
# session waited for the lock.
_SCHEMA = "pg_catalog.pg_namespace n where n.nspname = 'qw'"
_TABLE = (
    "pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = 'qw' and c.relname = 'migration'"
)


async def _exists(conn: Connection, thing: LiteralString) -> bool:
    row = await (await conn.execute(f"select exists (select from {thing})")).fetchone()  # noqa: S608 - ours
    return row is not None and bool(row[0])


async def _remedy(conn: Connection) -> str:
    """Return what an administrator can do so that this role may migrate."""
    row = await (await conn.execute(_OWNER)).fetchone()
    role, owner = row or ("", None)
    if owner is None:
        return f"the owner of the database can create the schema for this role: create schema qw authorization {role}"
    return f"migrate as {owner}, who owns the schema qw, or transfer it to this role: alter schema qw owner to {role}"


_OWNER = """
    select quote_ident(current_user),
           (select quote_ident(pg_get_userbyid(nspowner)) from pg_namespace where nspname = 'qw')"""


def _digest(migration: Migration) -> str:
    return hashlib.sha256(migration.text.encode()).hexdigest()
