"""Finds the database for a daemon or command, configured or private, and makes sure that its schema is right."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from qw import embedded
from qw.config import Settings
from qw.core.errors import Misconfigured
from qw.store import migrations
from qw.store.connection import connect, is_pooled

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Database:
    """A usable database. ``started``: the private server was started for it. ``direct_url``: for LISTEN and session
    locks.
    """

    url: str
    direct_url: str | None = None
    is_private: bool = False
    started: bool = False


async def find(settings: Settings, *, create: bool = True) -> Database:
    """The database of *settings*; starts the private server if no database is configured.

    Without *create*, raise Misconfigured if the private server does not exist yet.
    """
    if settings.database_url is not None:
        return Database(url=settings.database_url, direct_url=settings.listen_url)
    if not create and not embedded.exists(settings.home):
        raise Misconfigured(f"there is no private database in {settings.home}; create it with: qw db migrate")
    server = await asyncio.to_thread(embedded.ensure, settings.home, settings.pg_bin)
    return Database(url=server.url, direct_url=server.url, is_private=True, started=server.started)


async def ready(settings: Settings, *, migrate: bool = False) -> Database:
    """The same, with an up-to-date schema; see `prepare`."""
    database = await find(settings)
    await prepare(database, migrate=migrate)
    return database


async def prepare(database: Database, *, migrate: bool = False) -> list[str]:
    """Migrate a private or an empty database, and an older one only if *migrate* is set.

    Return the applied migrations, which are also logged. Raise Misconfigured naming ``qw db migrate`` otherwise.
    """
    status = await migrations.status(database.url)
    missing = migrations.missing(status)
    if not (migrate or database.is_private or len(missing) == len(status)):
        await migrations.check(database.url)
        return []
    applied = [migration.name for migration in await migrations.migrate(database.url)] if missing else []
    if applied:
        log.info("database schema migrated", extra={"applied": ", ".join(applied)})
    return applied


async def direct_url(database: Database) -> str | None:
    """A URL on which session locks and LISTEN work; None if there is only a connection pooler."""
    if database.direct_url is not None:
        return database.direct_url
    conn = await connect(database.url, name="qw")
    async with conn:
        return None if await is_pooled(conn) else database.url
