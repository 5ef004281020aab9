"""Too little of something: descriptors, disk, patience of the planner. And commands that must not outlive a daemon."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from qw import embedded
from qw.client import Client
from qw.core.task import Status
from qw.store import tasks
from qw.store.connection import connect, connect_guarded
from qw.store.tasks import Filter
from tests.databases import PrivateServer, private_home, wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.hole import hole
from tests.e2e.queue import SESSIONS, Queue
from tests.given import claimed, migrated, registered


def enqueue_command(url: str, *argv: str) -> UUID:
    async def enqueue() -> UUID:
        async with Client(url, size=1) as client:
            return (await client.enqueue("command", {"argv": list(argv)})).id

    return asyncio.run(enqueue())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_command_dies_with_its_daemon_and_runs_again_once(daemons: Daemons, queue: Queue, tmp_path: Path) -> None:
    daemon = daemons(QW_ALLOW_COMMANDS="1").ready()
    pids = tmp_path / "pids"
    id = enqueue_command(queue.url, "/bin/sh", "-c", f"echo $$ >> {pids}; exec sleep 60")
    wait_until(lambda: pids.exists() and pids.read_text().strip())
    daemon.kill()

    wait_until(lambda: not is_running(int(pids.read_text().split()[0])), 5)
    daemons(QW_ALLOW_COMMANDS="1").ready()
    wait_until(lambda: len(pids.read_text().split()) == 2)
    assert [is_running(int(pid)) for pid in pids.read_text().split()] == [False, True]
    assert queue.field(id, "crashes") == 1


def test_a_command_that_ignores_term_is_gone_before_a_cut_off_daemons_task_runs_again(
    daemons: Daemons, queue: Queue, tmp_path: Path
) -> None:
    beats = tmp_path / "beats"
    script = f"trap '' TERM; while :; do date +%s.%N >> {beats}; sleep 0.02; done"
    with hole(queue.url) as proxy:
        cut_off = daemons("--allow-commands", url=proxy.url, QW_LEASE="4s").ready()
        other = daemons("--queues", "other", QW_LEASE="4s").ready()
        id = enqueue_command(queue.url, "/bin/sh", "-c", script)
        wait_until(lambda: beats.exists() and len(beats.read_text().splitlines()) > 5)
        proxy.swallow()

        queue.wait_for([id], "pending", 15)

        rescued_at = float(queue.value("select extract(epoch from max(ended_at)) from qw.attempt"))
        assert float(beats.read_text().splitlines()[-1]) < rescued_at
        assert other.is_alive
        assert cut_off.is_alive
        proxy.open()


def test_a_command_is_dead_before_its_task_is_given_back(daemons: Daemons, queue: Queue, tmp_path: Path) -> None:
    daemon = daemons(QW_ALLOW_COMMANDS="1", QW_GRACE="0s").ready()
    pids = tmp_path / "pids"
    id = enqueue_command(queue.url, "/bin/sh", "-c", f"echo $$ >> {pids}; sleep 60")
    wait_until(lambda: pids.exists() and pids.read_text().strip())
    daemon.send(signal.SIGTERM)

    queue.wait_for([id], "pending")
    assert not is_running(int(pids.read_text()))
    assert daemon.exit_code() == 0


@pytest.mark.slow
def test_without_descriptors_it_goes_on_as_soon_as_there_are_some(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons().ready()
    limit_descriptors(daemon.process.pid, 12)
    queue.value(SESSIONS)
    ids = queue.put("noop", 20)
    wait_until(lambda: daemon.said("waiting for the database"))
    time.sleep(2)
    lines = len(daemon.log)
    limit_descriptors(daemon.process.pid, 1024)

    queue.wait_for(ids, "completed")
    assert lines < 200  # no busy loop
    assert daemon.is_alive
    assert queue.value("select count(*) from qw.attempt") == 0


def limit_descriptors(pid: int, count: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, 4096))


@pytest.fixture
def small_disk() -> Iterator[PrivateServer]:
    """A server whose data has no more than 128 MB."""
    with private_home() as home:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m,mode=755", "tmpfs", home], check=False,
                                 capture_output=True, text=True)  # fmt: skip
        if mounted.returncode:
            pytest.skip(f"no file system to fill: {mounted.stderr.strip()}")
        try:
            yield PrivateServer(home)
        finally:
            embedded.stop(home)
            subprocess.run(["umount", home], check=True)


@pytest.mark.slow
def test_a_full_disk_is_waited_for(small_disk: PrivateServer, tmp_path: Path) -> None:
    migrated(small_disk.url)
    daemons = Daemons(small_disk.url, tmp_path)
    daemon = daemons(QW_LEASE="20s").ready()
    filler = small_disk.home / "filler"
    with psycopg.connect(small_disk.url, autocommit=True) as connection:
        queue = Queue(connection, small_disk.url)
        queue.wait_for(queue.put("nap", 2, seconds=0), "completed")
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], check=False, stderr=subprocess.DEVNULL)
        with pytest.raises(psycopg.Error, match=r"No space left|closed the connection|terminating"):
            queue.put("noop", 2000, text="x" * 100_000)
    assert daemon.is_alive
    filler.unlink()
    small_disk.start()  # it may have stopped itself
    with psycopg.connect(small_disk.url, autocommit=True) as connection:
        queue = Queue(connection, small_disk.url)
        queue.wait_for(queue.put("nap", 3, seconds=0), "completed")
        assert queue.value("select count(*) from qw.finished where crashes > 0") == 0
    assert daemon.is_alive
    assert list(daemons.end()) == []


@pytest.mark.slow
def test_a_transaction_left_open_does_not_slow_the_claims(daemons: Daemons, queue: Queue) -> None:
    with psycopg.connect(queue.url) as idler:
        idler.execute("set transaction isolation level repeatable read")
        idler.execute("select pg_current_xact_id()")
        daemons().ready()
        rates = [rate(queue, 3000) for _ in range(4)]
        idler.rollback()

    assert min(rates) > max(rates) / 3


def rate(queue: Queue, count: int) -> float:
    """Tasks per second of a burst."""
    ids = queue.column("select qw.enqueue('noop') from generate_series(1, %s)", count)
    started = time.monotonic()
    last = ids[-1]
    wait_until(lambda: queue.value("select not exists (select 1 from qw.ready) and not exists"
                                   " (select 1 from qw.running)"), 60)  # fmt: skip
    assert queue.status(last) == "completed"
    return count / (time.monotonic() - started)


@pytest.mark.slow
def test_many_rows_slow_neither_claims_nor_lists(url: str, queue: Queue) -> None:
    many = 200_000
    queue.connection.execute(f"""
        with t as (insert into qw.task (id, queue, type, payload, priority)
          select qw.new_id(), 'default', 'noop', '{{}}', 5 from generate_series(1, {3 * many}) returning id
        ), n as (select id, row_number() over () as n from t
        ), r as (insert into qw.ready (task_id, queue, priority) select id, 'default', 5 from n where n % 3 = 0
        ), s as (insert into qw.scheduled (task_id, run_at, queue, priority, reason)
          select id, now() + interval '1 day', 'default', 5, 'time' from n where n % 3 = 1
        ) insert into qw.finished (task_id, status, fence, attempt, retries, crashes)
          select id, 'completed', n, 1, 0, 0 from n where n % 3 = 2""".encode())  # fmt: skip
    queue.connection.execute("analyze")

    async def look() -> list[float]:
        times: list[float] = []
        async with await connect_guarded(url, name="qw test") as hot, await connect(url) as cold:
            worker = await registered(hot)
            acts: list[Callable[[], Awaitable[object]]] = [lambda: claimed(hot, worker, room=100)]
            acts += [partial(tasks.find, cold, Filter(status=status), limit=50) for status in Status]
            acts += [lambda: tasks.stats(cold)]
            for act in acts:
                await act()
                started = time.monotonic()
                await act()
                times.append(time.monotonic() - started)
        return times

    claim, *lists = asyncio.run(look())
    assert claim < 0.05
    assert max(lists) < 0.25
