"""Real databases for the tests: fixtures ``server`` and ``private_server``, and `template` for a database per test.

``QW_TEST_SERVERS`` chooses what ``server`` is: ``shared`` (``QW_TEST_POSTGRES_URL``, or 127.0.0.1:5432 with trust),
``private`` (started for this run by qw itself), or both with a comma. Unset: shared if it answers, else private.
Names of databases are of one run, so runs do not meet.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

import psycopg
import pytest

from qw import embedded
from qw.core.errors import Misconfigured
from tests.processes import left_behind, slowed

SHARED_URL = os.environ.get("QW_TEST_POSTGRES_URL") or "postgresql://postgres@127.0.0.1:5432/postgres"

_names = (f"qw_test_{os.getpid()}_{os.urandom(4).hex()}_{number}" for number in count())
_STOP = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server(Protocol):
    """A PostgreSQL server, by the URL of a database from which others may be created."""

    @property
    def url(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class SharedServer:
    """One that was there before us and is there for others too."""

    url: str


class PrivateServer:
    """One of our own, as qw starts it: it may be stopped, killed and started again. ``url`` stays good."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = embedded.ensure(home).url

    def start(self) -> None:
        """Back up. Does nothing when it runs."""
        self.url = embedded.ensure(self.home).url

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Down in one of PostgreSQL's ways. ``smart`` waits for every session to end by itself."""
        self._signal(_STOP[mode])
        wait_until(lambda: not (self.home / "pg" / "postmaster.pid").exists())

    def kill(self) -> None:
        """kill -9 of the postmaster; its backends notice within moments."""
        self._signal(signal.SIGKILL)
        wait_until(lambda: embedded.running(self.home) is None)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stopped: connections stay, nobody answers."""
        server = embedded.running(self.home)
        assert server is not None
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        pids = [server.pid, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # some end as soon as the first go on
                    os.kill(pid, signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if server := embedded.running(self.home):
            os.kill(server.pid, number)


class Template:
    """A migrated database that can be cloned in some 20 ms."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name

    @contextmanager
    def clone(self) -> Iterator[str]:
        """The URL of a database of its own, dropped at the end whoever is still connected."""
        with _database(self._server, self._name) as name:
            yield url_of(self._server, name)


@contextmanager
def template(server: Server, migrate: Callable[[str], None]) -> Iterator[Template]:
    """A new database of *server* on which *migrate*, which must leave no connection open, was called with its URL."""
    with _database(server, "template0") as name:
        migrate(url_of(server, name))
        yield Template(server, name)


def url_of(server: Server, database: str) -> str:
    return re.sub(r"^(\w+://[^/?]*)[^?]*", rf"\1/{database}", server.url)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Come back when *condition* is true. Fail when it takes longer, on a machine that has nothing else to do."""
    deadline = time.monotonic() + slowed(seconds)
    asked = time.monotonic()
    while not condition():
        now = time.monotonic()
        assert now < deadline, "this never came true"
        time.sleep(max(0.01, min(now - asked, 0.5)))  # who asks leaves half of the time to who is to answer
        asked = time.monotonic()


@contextmanager
def private_home() -> Iterator[Path]:
    """A new home. Not in pytest's own directory: PostgreSQL, which does not run as root, cannot enter root's."""
    home = Path(tempfile.mkdtemp(prefix="qw-test-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        embedded.stop(home)
        assert not left_behind("none", home), "its server still runs"
        shutil.rmtree(home, ignore_errors=True)


def _is_reachable(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5432), timeout=2):
            return True
    except OSError:
        return False


def _kinds() -> list[str]:
    if chosen := os.environ.get("QW_TEST_SERVERS"):
        return chosen.split(",")
    named = "QW_TEST_POSTGRES_URL" in os.environ
    return ["shared"] if named or _is_reachable(SHARED_URL) else ["private"]


_KINDS = _kinds()


@pytest.fixture(scope="session", params=_KINDS if len(_KINDS) > 1 else None)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The PostgreSQL that most tests use. Not theirs to stop."""
    if getattr(request, "param", _KINDS[0]) == "shared":
        yield SharedServer(url=SHARED_URL)
        return
    with private_home() as home:
        yield _start(home)


@pytest.fixture(scope="module")
def private_cluster() -> Iterator[PrivateServer]:
    with private_home() as home:
        yield _start(home)


@pytest.fixture
def private_server(private_cluster: PrivateServer) -> PrivateServer:
    """A server of this module's own, running at the start of each test, to be stopped and killed at will."""
    private_cluster.start()
    return private_cluster


def _start(home: Path) -> PrivateServer:
    try:
        return PrivateServer(home)
    except Misconfigured as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@contextmanager
def _database(server: Server, source: str) -> Iterator[str]:
    name = next(_names)
    _execute(server, f'create database "{name}" template "{source}" strategy wal_log')
    try:
        if isinstance(server, SharedServer):  # nobody kills it, so no test is about what a commit survives there
            _execute(server, f'alter database "{name}" set synchronous_commit = off')
        yield name
    finally:
        _execute(server, f'drop database if exists "{name}" with (force)')


def _execute(server: Server, statement: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(statement.encode())
