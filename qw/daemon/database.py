"""The database a daemon or command works on: named by the settings, or the private one, with the schema it needs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qw import embedded
from qw.config import Settings
from qw.store import migrations
from qw.store.connection import connect, is_pooled


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where the queue is. ``started``: the private server was down. ``direct_url``: for LISTEN and locks."""

    url: str
    direct_url: str | None = None
    is_private: bool = False
    started: bool = False


async def find(settings: Settings) -> Database:
    """The database of *settings*; starts the private server where none is named."""
    if settings.database_url is not None:
        return Database(url=settings.database_url, direct_url=settings.listen_url)
    server = await asyncio.to_thread(embedded.ensure, settings.home, settings.pg_bin)
    return Database(url=server.url, direct_url=server.url, is_private=True, started=server.started)


async def ready(settings: Settings, *, migrate: bool = False) -> Database:
    """The same with its schema. A private or an empty database is migrated; an older one elsewhere only when asked.

    Raises Misconfigured, naming ``qw db migrate``.
    """
    place = await find(settings)
    known = await migrations.status(place.url)
    missing = [migration for migration in known if migration.applied_at is None]
    if missing and (migrate or place.is_private or len(missing) == len(known)):
        await migrations.migrate(place.url)
    elif missing:
        await migrations.check(place.url)
    return place


async def direct_url(place: Database) -> str | None:
    """A URL on which session locks and LISTEN work; None where there is only a pooler."""
    if place.direct_url is not None:
        return place.direct_url
    conn = await connect(place.url, name="qw")
    async with conn:
        return None if await is_pooled(conn) else place.url
