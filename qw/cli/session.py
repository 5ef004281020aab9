"""Reads the settings, finds the database and opens a client, for most commands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from qw.cli.output.records import say
from qw.cli.settings import load_settings, running_url
from qw.core.errors import Unavailable

if TYPE_CHECKING:
    from qw.client import Client
    from qw.config import Settings

T = TypeVar("T")


def with_client(work: Callable[[Client], Awaitable[T]], *, creates: bool = False) -> T:
    """Return the result of *work*, called with a client.

    *creates*: if the private database is missing or empty, create its schema first and report that on stderr. Without
    *creates*, raise Misconfigured in that case, since there is nothing to read.
    """
    from qw.client.acting import Actor, acting

    with acting(Actor(_user(), "cli")):
        return asyncio.run(_work(load_settings(), work, creates))


def _user() -> str | None:
    """Return the name of the operating system's user; None if unknown: the audit then shows the database role."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


async def _work(settings: Settings, work: Callable[[Client], Awaitable[T]], creates: bool) -> T:
    from qw.store.errors import WrongSchema

    url = running_url(settings)
    if url is not None:
        try:
            return await _with(url, work, settings)
        except WrongSchema:  # raised before *work* changed anything
            pass
    from qw.daemon.database import find, prepare
    from qw.store import migrations

    place = await find(settings, create=creates)
    if creates and (applied := await prepare(place)):
        say(f"made the schema of qw in this database: {', '.join(applied)}")
    elif not creates:
        await migrations.check(place.url)
    return await _with(place.url, work, settings)


async def _with(url: str, work: Callable[[Client], Awaitable[T]], settings: Settings) -> T:
    from qw.client import Client

    async def opened() -> Client:
        return await Client(url, size=1, name="qw cli", check_tasks=settings.check_tasks).__aenter__()

    try:
        client = await opened()
    except Unavailable:
        from qw.daemon.startup import opened_soon

        client = await opened_soon(opened)
    try:
        return await work(client)
    finally:
        await client.__aexit__(None, None, None)


def myself() -> str:
    """Return the user and host that run this command, as records show them."""
    import getpass
    import socket

    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
