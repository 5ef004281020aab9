"""What every command does first: read the settings, find the database, open a client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from qw.cli.command import FLAGS
from qw.core.errors import Misconfigured

if TYPE_CHECKING:
    from qw.client import Client
    from qw.config import Settings

T = TypeVar("T")


def load_settings(**flags: object) -> Settings:
    """The settings of this command line; *flags* are those that only this command takes."""
    from qw.config import load

    common = dict(FLAGS)
    file = common.pop("config", None)
    return load(os.environ, {**common, **flags}, Path(str(file)) if file else None)


def with_client(work: Callable[[Client], Awaitable[T]]) -> T:
    """What *work* returns, given a client of the queue. An empty or private database is migrated on the way."""
    return asyncio.run(_work(load_settings(), work))


async def _work(settings: Settings, work: Callable[[Client], Awaitable[T]]) -> T:
    url = _running(settings)
    if url is not None:
        try:
            return await _with(url, work)
        except Misconfigured:  # perhaps only for want of a schema; then nothing was done yet
            pass
    from qw.daemon.database import ready

    return await _with((await ready(settings)).url, work)


def _running(settings: Settings) -> str | None:
    """The database, without asking it anything; None where the private server is down."""
    if settings.database_url is not None:
        return settings.database_url
    from qw import embedded

    server = embedded.running(settings.home)
    return server.url if server else None


async def _with(url: str, work: Callable[[Client], Awaitable[T]]) -> T:
    from qw.client import Client

    async with Client(url, size=1, name="qw cli") as client:
        return await work(client)
