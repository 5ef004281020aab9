"""Databases for tests: a private PostgreSQL per run or an existing server, and a clone of a template per test."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from qw import embedded
from qw.store import migrations
from qw.testing.clock import execute, follow, prepare, use
from qw.testing.home import new_home

_names = (f"qw_test_{os.getpid()}_{os.urandom(4).hex()}_{number}" for number in count())


class TemplateDatabase:
    """A database with the schema of qw, to be cloned in some 30 ms. Made by `template`."""

    def __init__(self, url: str, name: str, conn: psycopg.Connection[Any]) -> None:
        self._url = url
        self._name = name
        self._conn = conn
        # Of a server that waits for the disk the other strategy asks two checkpoints.
        (waits,) = conn.execute("show fsync").fetchone() or ("on",)
        self._strategy = SQL("wal_log" if waits == "on" else "file_copy")

    @contextmanager
    def clone(self) -> Iterator[str]:
        """The URL of a new database; it is dropped at the end, whoever is still connected."""
        name = next(_names)
        made, source = Identifier(name), Identifier(self._name)
        self._conn.execute(SQL("create database {} template {} strategy {}").format(made, source, self._strategy))
        try:
            self._conn.execute(use(name))
            yield url_of(self._url, name)
        finally:
            self._conn.execute(SQL("drop database if exists {} with (force)").format(made))


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a private PostgreSQL, which is deleted at the end."""
    home = new_home()
    try:
        yield start(home)
    finally:
        remove(home)


def start(home: Path) -> str:
    """Return the URL of the private PostgreSQL in *home*; start it if necessary. Its data do not survive a crash of
    the machine.

    Safe to call from several processes at once.
    """
    made = embedded.ensure(home)
    if made.started:
        for statement in _FAST:
            execute(made.url, statement)
    return made.url


# Without waiting for the disk a clone takes a tenth of the time.
_FAST = (
    SQL("alter system set fsync = off"),
    SQL("alter system set synchronous_commit = off"),
    SQL("alter system set full_page_writes = off"),
    SQL("select pg_reload_conf()"),
)


def remove(home: Path) -> None:
    """Stop the PostgreSQL of *home* and delete it."""
    embedded.stop(home)
    shutil.rmtree(home, ignore_errors=True)


@contextmanager
def template(url: str) -> Iterator[TemplateDatabase]:
    """Yield a new template on the server at *url*, whose role must be allowed to create databases."""
    name = next(_names)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(SQL("create database {} template template0").format(Identifier(name)))
        try:
            own = url_of(url, name)
            prepare(own, name)
            with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop that runs
                thread.submit(asyncio.run, migrations.migrate(own)).result()
            follow(own)
            yield TemplateDatabase(url, name, conn)
        finally:
            conn.execute(SQL("drop database if exists {} with (force)").format(Identifier(name)))


def url_of(url: str, database: str) -> str:
    """*url* with the name of another database."""
    return re.sub(r"^(\w+://[^/?]*)[^?]*", rf"\1/{database}", url)
