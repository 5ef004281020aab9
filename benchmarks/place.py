"""The environment of benchmarks: a database of their own, and daemons as processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from qw import embedded
from qw.store import migrations


def named_server() -> AbstractContextManager[str] | None:
    """Return the server named by QW_BENCH_DATABASE_URL; None if it is unset."""
    url = os.environ.get("QW_BENCH_DATABASE_URL")
    return nullcontext(url) if url else None


@contextmanager
def private_server(home: Path) -> Iterator[str]:
    """Run a private server in *home* and stop it at the end."""
    home.chmod(0o755)  # the server may run as another user
    try:
        yield embedded.ensure(home).url
    finally:
        embedded.stop(home)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, with a resolution of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@dataclass(frozen=True, kw_only=True)
class Place:
    """A migrated database. ``url`` is a libpq connection string."""

    url: str

    @classmethod
    @asynccontextmanager
    async def fresh(cls, server: str) -> AsyncIterator[Place]:
        name = f"qw_bench_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(f"create database {name}")
        place = cls(url=make_conninfo(server, dbname=name))
        try:
            await migrations.migrate(place.url)
            yield place
        finally:
            with psycopg.connect(server, autocommit=True) as conn:
                conn.execute(f"drop database {name} with (force)")

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url, autocommit=True)

    def number(self, sql: str) -> float:
        with self.connect() as conn:
            row = conn.execute(sql).fetchone()
        assert row is not None
        return float(str(row[0]))

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment for commands that use this database."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("QW_", "PG"))}
        return {**kept, "QW_DATABASE_URL": self.url}

    @asynccontextmanager
    async def daemon(self, *flags: str, **settings: str) -> AsyncIterator[subprocess.Popen[bytes]]:
        """Run a daemon with default settings except *settings*. It is ready when this yields, and drained at the
        end.
        """
        with tempfile.TemporaryDirectory(prefix="qw-bench-home-") as home:
            environ = {**self.environ, **settings, "QW_HOME": home}
            process = subprocess.Popen(
                [sys.executable, "-m", "qw", "daemon", *flags], env=environ, stderr=subprocess.DEVNULL
            )
            try:
                while self.number("select count(*) from qw.worker where stopped_at is null") < 1:
                    await asyncio.sleep(0.02)
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(process.wait, 30)
