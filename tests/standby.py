"""Two servers of one cluster, each of which can be primary or standby: what a failover looks like to their clients.

The second begins as a copy of the first. They do not stream, so a failover is one to an older copy; which of them takes
writes is all that matters here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from qw.embedded.programs import Owner, Programs, choose, environment, find_owner, reachable, run, user
from tests.databases import wait_until

PORT = 5432


class PairServer:
    """One of the two. It listens on a socket in its data directory and nowhere else."""

    def __init__(self, data: Path, programs: Programs, owner: Owner | None) -> None:
        self.data = data
        self._programs = programs
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://qw@/postgres?host={self.data}&port={PORT}"

    def start(self, *, standby: bool = False) -> None:
        signal = self.data / "standby.signal"
        if standby:
            signal.touch()
        else:
            signal.unlink(missing_ok=True)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": self.data,
            "fsync": "off",
            "logging_collector": "off",
        }
        words: list[Path | str] = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command: list[Path | str] = [self._programs.directory / "postgres", "-D", self.data, *words]
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", env=environment(), **user(self._owner)
            )
        wait_until(self.answers)

    def stop(self) -> None:
        """At once, as a server that is lost."""
        if self._process is not None:
            self._process.send_signal(3)  # QUIT: immediate
            self._process.wait(60)
            self._process = None

    def shut_down(self) -> None:
        """In order, so that it can come back as a standby."""
        assert self._process is not None
        self._process.send_signal(2)  # INT: fast
        self._process.wait(60)
        self._process = None

    def promote(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("select pg_promote()")

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True


class ServerPair:
    """``url`` names both, the second, which begins as the standby, first."""

    def __init__(self, first: PairServer, second: PairServer) -> None:
        self.first = first
        self.second = second

    @property
    def url(self) -> str:
        return f"postgresql://qw@/postgres?host={self.second.data},{self.first.data}&port={PORT},{PORT}"


@contextmanager
def server_pair(migrate: object) -> Iterator[ServerPair]:
    """A primary on which *migrate* was called with its URL, and a standby with the same in it."""
    folder = Path(tempfile.mkdtemp(prefix="qw-pair-"))
    folder.chmod(0o755)
    owner = find_owner()
    programs = reachable(choose(folder / "a", None), folder, owner)
    if owner:
        os.chown(folder, owner.uid, owner.gid)
    initdb: list[Path | str] = [
        programs.directory / "initdb",
        "-D",
        folder / "a",
        "--username=qw",
        "--auth=trust",
        "--no-sync",
    ]
    run([*initdb, "--encoding=UTF8", "--no-locale"], owner)
    first, second = PairServer(folder / "a", programs, owner), PairServer(folder / "b", programs, owner)
    try:
        first.start()
        migrate(first.url)  # type: ignore[operator]
        first.shut_down()
        subprocess.run(["cp", "-a", first.data, second.data], check=True)
        first.start()
        second.start(standby=True)
        yield ServerPair(first, second)
    finally:
        first.stop()
        second.stop()
        shutil.rmtree(folder, ignore_errors=True)
