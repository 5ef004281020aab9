"""Children that handlers fork have nothing of the daemon: neither its sockets nor its signals nor its work."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue
from tests.processes import free_port

APP = ("--app", "tests.e2e.forking_app:app")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """Where a child writes its number; it is ended after the test."""
    named = tmp_path / "child"
    yield named
    if named.exists():
        os.kill(int(named.read_text()), signal.SIGKILL)


def sockets(pid: int) -> list[str]:
    links = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return [str(link) for link in links if str(link).startswith("socket:")]


@pytest.mark.parametrize("type", ["fork", "fork_in_thread"])
def test_a_daemon_is_found_dead_at_once_though_a_child_of_it_lives(
    daemons: Daemons, queue: Queue, file: Path, type: str
) -> None:
    port = free_port()
    first = daemons(*APP, "--http", "--port", str(port), QW_LEASE="60s", QW_HEARTBEAT="1s").ready()
    queue.wait_for([queue.put_one(type, file=str(file))], "completed")
    nap = queue.put_one("nap", seconds=0.1)  # a type that only the next one serves
    queue.connection.execute("select 1")
    first.kill()
    second = daemons("--http", "--port", str(port), QW_LEASE="60s", QW_HEARTBEAT="1s").ready()  # the port is free

    wait_until(lambda: queue.value("select dead_at is not null from qw.worker where id = %s", first.worker), 8)
    queue.wait_for([nap], "completed")
    os.kill(int(file.read_text()), 0)  # it lives
    assert second.is_alive


def test_a_signal_for_a_child_ends_the_child_and_not_the_daemon(daemons: Daemons, queue: Queue, file: Path) -> None:
    daemon = daemons(*APP).ready()
    task = queue.put_one("multiprocess", file=str(file))
    queue.wait_for([task], "completed")
    file.unlink()

    assert queue.field(task, "result") == -signal.SIGTERM
    queue.wait_for([queue.put_one("noop")], "completed")
    assert not daemon.said("draining")


_SESSIONS = """
    select pid from pg_stat_activity where application_name like 'qw %' and datname = current_database()"""


@pytest.mark.parametrize(("type", "code"), [("come_back", 1), ("collect", 0)])
def test_a_child_cannot_go_on_as_the_daemon_nor_say_good_bye_in_its_name(
    daemons: Daemons, queue: Queue, type: str, code: int
) -> None:
    daemon = daemons(*APP).ready()
    before = queue.column(_SESSIONS)
    task = queue.put_one(type)
    queue.wait_for([task], "completed")

    assert queue.field(task, "result") == code
    queue.wait_for([queue.put_one("noop")], "completed")
    after = queue.column(_SESSIONS)
    assert set(before) <= set(after)
    assert daemon.is_alive


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_child_holds_none_of_the_sockets_that_reach_the_database(daemons: Daemons, queue: Queue, file: Path) -> None:
    daemon = daemons(*APP).ready()
    queue.wait_for([queue.put_one("fork", file=str(file))], "completed")

    tcp = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    inodes = {line.split()[9] for line in tcp.splitlines()[1:] if len(line.split()) > 9}
    theirs = {link[8:-1] for link in sockets(int(file.read_text()))} & inodes
    ours = {link[8:-1] for link in sockets(daemon.process.pid)} & inodes
    assert len(ours) > 3
    assert theirs == set()
