"""The database goes away, comes back, refuses, or is slow. No task fails for it, and no daemon ends."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.cli.program import Qw, environment
from tests.databases import PrivateServer, Server, wait_until
from tests.e2e.daemon_process import LEASE, Daemons
from tests.e2e.hole import hole
from tests.e2e.queue import SESSIONS, Queue
from tests.given import migrated
from tests.processes import slowed

CROWDED = "too many clients|remaining connection slots"


@contextmanager
def opened(url: str) -> Iterator[Queue]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield Queue(connection, url)


def test_all_sessions_killed_cost_nothing(daemons: Daemons, queue: Queue) -> None:
    daemon, other = daemons().ready(), daemons("--queues", "other").ready()
    ids = queue.put("nap", 5, seconds=2)
    wait_until(lambda: len(daemon.marks("begin")) == 5)
    assert queue.value(SESSIONS) > 8

    queue.wait_for(ids, "completed")
    wait_until(lambda: queue.value("select count(*) from pg_stat_activity where application_name = 'qw listener'"
                                   " and datname = current_database()") == 2)  # fmt: skip
    queue.wait_for(queue.put("nap", 3, seconds=0), "completed", 3)

    assert queue.value("select count(*) from qw.attempt") == 0
    assert queue.column("select distinct attempt from qw.finished") == [1]
    assert daemon.is_alive
    assert other.is_alive
    assert queue.value("select count(*) from qw.worker where dead_at is not null") == 0


def test_sessions_killed_again_and_again_lose_no_outcome(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons().ready()
    ids = queue.put("nap", 300, seconds=0.05)
    deadline = time.monotonic() + 30
    while queue.value("select count(*) from qw.finished") < 300:
        assert time.monotonic() < deadline
        queue.value(SESSIONS)
        time.sleep(0.1)

    queue.wait_for(ids, "completed")
    assert queue.value("select count(*) from qw.attempt where outcome = 'lease_lost'") == 0
    assert queue.value("select count(*) from qw.finished where crashes + retries > 0") == 0
    assert daemon.is_alive
    queue.expect_whole()


@pytest.mark.parametrize("mode", ["immediate", pytest.param("fast", marks=pytest.mark.slow)])
def test_a_restart_of_the_server_costs_nothing(
    private_daemons: Daemons, private_server: PrivateServer, mode: str
) -> None:
    one = private_daemons(QW_LEASE="10s").ready()  # a recovery may take some seconds
    two = private_daemons("--queues", "other", QW_LEASE="10s").ready()
    with opened(private_daemons.url) as queue:
        ids = queue.put("nap", 5, seconds=3)
        wait_until(lambda: len(one.marks("begin")) == 5)
    private_server.stop(mode)  # type: ignore[arg-type]
    private_server.start()
    with opened(private_daemons.url) as queue:
        queue.wait_for(ids, "completed")
        queue.wait_for(queue.put("nap", 3, seconds=0), "completed", 5)

        assert queue.value("select count(*) from qw.attempt") == 0
        assert queue.column("select distinct attempt from qw.finished") == [1]
        assert queue.value("select count(*) from qw.worker where dead_at is not null") == 0
    assert one.is_alive
    assert two.is_alive


def test_results_wait_for_a_database_that_is_long_away(private_daemons: Daemons, private_server: PrivateServer) -> None:
    daemon = private_daemons(QW_LEASE="30s").ready()
    with opened(private_daemons.url) as queue:
        ids = queue.put("nap", 5, seconds=1)
        wait_until(lambda: len(daemon.marks("begin")) == 5)
    private_server.stop("immediate")
    wait_until(lambda: len(daemon.marks("end")) == 5)
    time.sleep(2)
    assert daemon.is_alive
    assert len(daemon.said("waiting for the database")) < 60
    private_server.start()
    with opened(private_daemons.url) as queue:
        queue.wait_for(ids, "completed", 10)
        assert queue.column("select distinct attempt from qw.finished") == [1]
        assert queue.value("select count(*) from qw.attempt") == 0


@pytest.mark.slow
def test_a_lease_that_ran_out_while_the_database_was_away_costs_nothing_either(
    private_daemons: Daemons, private_server: PrivateServer
) -> None:
    daemon = private_daemons().ready()
    with opened(private_daemons.url) as queue:
        id = queue.put_one("nap", seconds=LEASE + 2)
        wait_until(lambda: daemon.marks("begin"))
    private_server.stop("immediate")
    time.sleep(LEASE + 1)
    private_server.start()
    with opened(private_daemons.url) as queue:
        queue.wait_for([id], "completed")
        assert queue.value("select (retries, crashes)::text from qw.finished") == "(0,0)"
        assert queue.value("select count(*) from qw.attempt") == 0
    assert daemon.is_alive


def test_a_daemon_in_a_black_hole_stops_its_handlers_and_another_takes_over(daemons: Daemons, queue: Queue) -> None:
    with hole(queue.url) as proxy:
        cut_off, other = daemons(url=proxy.url).ready(), daemons("--queues", "other").ready()
        id = queue.put_one("nap", seconds=60)
        wait_until(lambda: cut_off.marks("begin"))
        proxy.swallow()
        silent_at = time.monotonic()

        queue.wait_for([id], "pending")
        assert LEASE * 0.5 < time.monotonic() - silent_at < slowed(LEASE + 4)
        assert queue.outcomes(id) == ["worker_died"]
        proxy.open()
        wait_until(lambda: cut_off.said("registering as a new worker"), 30)
        wait_until(lambda: len(cut_off.marks("begin")) == 2)
        assert cut_off.marks("end") == []
        assert other.is_alive
        queue.expect_whole()


@pytest.mark.slow
def test_short_time_outs_of_the_role_are_met_with_another_try(
    private_daemons: Daemons, private_server: PrivateServer
) -> None:
    with opened(private_server.url) as admin:
        database = private_daemons.url.split("?")[0].rsplit("/", 1)[1]
        admin.connection.execute(f'alter database "{database}" set statement_timeout = 50'.encode())
        admin.connection.execute(f'alter database "{database}" set lock_timeout = 10'.encode())
    with opened(private_daemons.url) as queue, psycopg.connect(private_daemons.url, autocommit=True) as locker:
        locker.execute("set statement_timeout = 0")
        daemon = private_daemons().ready()
        ids = queue.put("nap", 100, seconds=0)
        for _ in range(5):
            with locker.transaction():
                locker.execute("lock table qw.running")
                time.sleep(0.2)

        queue.wait_for(ids, "completed", 30)
        assert queue.value("select count(*) from qw.finished where retries + crashes > 0") == 0
        assert daemon.said("waiting for the database")
        assert daemon.is_alive
        queue.expect_whole()


@pytest.mark.parametrize("tables", [
    "qw.running", pytest.param("qw.task", marks=pytest.mark.slow),
    pytest.param("qw.finished, qw.ready", marks=pytest.mark.slow),
])  # fmt: skip
def test_an_admins_lock_is_waited_for_and_kills_nobody(daemons: Daemons, queue: Queue, tables: str) -> None:
    one, two = daemons().ready(), daemons("--queues", "other").ready()
    id = queue.put_one("nap", seconds=1)
    wait_until(lambda: one.marks("begin"))
    with psycopg.connect(queue.url) as admin:
        admin.execute(f"lock table {tables} in access exclusive mode".encode())
        time.sleep(LEASE * 2)
    queue.wait_for([id], "completed")

    assert (queue.field(id, "attempt"), queue.outcomes(id)) == (1, [])
    assert queue.value("select count(*) from qw.worker where dead_at is not null") == 0
    assert one.is_alive
    assert two.is_alive


def test_a_running_daemon_keeps_its_connections_and_a_new_one_waits_for_some(
    private_daemons: Daemons, private_server: PrivateServer
) -> None:
    daemon = private_daemons().ready()
    with ExitStack() as crowd, opened(private_daemons.url) as queue:
        with pytest.raises(psycopg.OperationalError, match=CROWDED):
            fill(crowd, private_server.url)
        queue.wait_for(queue.put("nap", 5, seconds=0), "completed", 10)
        late = private_daemons()
        wait_until(lambda: late.said("waiting for the database"))
        assert re.search(CROWDED, late.said("waiting for the database")[0]["error"])
        bounded = private_daemons("--wait-for-database", "300ms")
        assert bounded.exit_code() == 69
        assert re.search(CROWDED, bounded.log_file.read_text().splitlines()[-1])
    late.ready()
    assert daemon.is_alive


def test_a_command_waits_a_moment_for_a_server_that_is_not_ready(
    private_url: str, private_server: PrivateServer, tmp_path: Path
) -> None:
    qw = Qw(environment(QW_DATABASE_URL=private_url, HOME=str(tmp_path)), tmp_path)
    with ExitStack() as crowd:
        with pytest.raises(psycopg.OperationalError, match=CROWDED):
            fill(crowd, private_server.url)
        soon = threading.Timer(1.0, crowd.close)
        soon.start()
        began = time.monotonic()

        done = qw("enqueue", "noop")

        assert (done.code, time.monotonic() - began > 0.9) == (0, True), done.err
        soon.join()


@pytest.mark.parametrize("words", [(), ("--processes", "2")])
def test_a_daemon_that_starts_before_its_database_waits_for_it(
    private_daemons: Daemons, private_server: PrivateServer, words: tuple[str, ...], tmp_path: Path
) -> None:
    private_server.stop("immediate")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        daemon = private_daemons(*words, NOTIFY_SOCKET=str(tmp_path / "notify"))
        told = systemd.recv(2000).decode()
        assert told.startswith("STATUS=waiting for the database: the database cannot be reached")
        assert "EXTEND_TIMEOUT_USEC=" in told
        processes = 1 + bool(words)
        said: Counter[object] = Counter()

        def each_said_it_twice() -> bool:
            nonlocal said
            said = Counter(line["level"] for line in daemon.said("waiting for the database"))
            return said["warning"] >= processes and said.total() >= 2 * processes

        systemd.setblocking(False)

        def hear() -> bool:
            """Read what systemd would read: a full socket takes no more."""
            nonlocal told
            with contextlib.suppress(BlockingIOError):
                while "READY=1" not in told:
                    told = systemd.recv(2000).decode()
            return "READY=1" in told

        wait_until(lambda: not hear() and each_said_it_twice())
        assert said["warning"] == processes
        private_server.start()
        wait_until(hear)
        daemon.ready()
    daemon.send(signal.SIGTERM)
    assert daemon.exit_code() == 0


def test_a_daemon_that_waits_for_its_database_ends_when_told_to(daemons: Daemons) -> None:
    daemon = daemons(url="postgresql://someone@127.0.0.1:1/x")
    wait_until(lambda: daemon.said("waiting for the database"))

    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(5) == 0


def fill(crowd: ExitStack, url: str) -> None:
    """Open sessions until there are no more to be had."""
    while True:
        crowd.enter_context(closing(psycopg.connect(url)))


def test_what_is_wrong_with_a_database_is_said_in_one_line(daemons: Daemons, queue: Queue, own_url: str) -> None:
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("insert into qw.migration (version, name, digest) values (9999, 'later', '')")
    nobody = make_conninfo(own_url, user="no_such_role")
    tls = make_conninfo(own_url, sslmode="require")
    nowhere = own_url.rsplit("/", 1)[0] + "/no_such_database"
    cases = {
        own_url: (78, "made by a newer qw"),
        nowhere: (78, "create it with createdb"),
        nobody: (78, 'role "no_such_role" does not exist; check user and password'),
        **({tls: (78, "check sslmode")} if "host=/" not in own_url else {}),
        "postgresql://someone:topsecret@127.0.0.1:1/x": (69, "cannot be reached"),
    }
    for url, (code, words) in cases.items():
        daemon = daemons("--wait-for-database", "0s", url=url)
        text = daemon.exit_code() and daemon.log_file.read_text().strip()
        assert daemon.exit_code() == code, text
        assert words in str(text)
        assert len(str(text).splitlines()) == 1
        assert "topsecret" not in str(text)


def test_a_server_that_takes_no_writes_is_waited_for(private_daemons: Daemons, private_server: PrivateServer) -> None:
    daemon = private_daemons().ready()
    with opened(private_daemons.url) as queue, opened(private_server.url) as admin:
        id = queue.put_one("nap", seconds=1)
        wait_until(lambda: daemon.marks("begin"))
        admin.connection.execute("alter system set default_transaction_read_only = on")
        admin.value("select pg_reload_conf()")
        wait_until(lambda: daemon.said("waiting for the database"))
        time.sleep(LEASE)
        assert queue.status(id) == "processing"
        admin.connection.execute("set default_transaction_read_only = off")
        admin.connection.execute("alter system reset default_transaction_read_only")
        admin.value("select pg_reload_conf()")

        queue.wait_for([id], "completed")
        assert queue.value("select (retries, crashes)::text from qw.finished") == "(0,0)"
        queue.wait_for(queue.put("nap", 2, seconds=0), "completed")
    assert daemon.is_alive


@pytest.mark.slow
def test_what_no_notification_told_of_is_found_by_looking(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons().ready()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        queue.value("select count(pg_terminate_backend(pid)) from pg_stat_activity"
                    " where application_name = 'qw listener' and datname = current_database()")  # fmt: skip
        started = time.monotonic()
        queue.wait_for(queue.put("nap", seconds=0), "completed")
        assert time.monotonic() - started < slowed(2)
    assert daemon.is_alive
    assert queue.value("select count(*) from qw.attempt") == 0


@pytest.mark.slow
def test_cancels_retries_and_daemons_at_once_deadlock_nobody_for_good(daemons: Daemons, queue: Queue) -> None:
    daemons().ready(), daemons().ready()
    ids = queue.put("nap", 200, seconds=0.01)
    program = (
        "import asyncio, sys\nfrom uuid import UUID\nfrom qw import Client\n"
        "async def main():\n"
        "    ids = [UUID(i) for i in sys.stdin.read().split()]\n"
        "    async with Client(sys.argv[1]) as client:\n"
        "        for _ in range(10):\n"
        "            back = ids[::-1]\n"
        "            all = client.tasks\n"
        "            await asyncio.gather(all.cancel(ids), all.retry(back), all.cancel(back, running=True))\n"
        "asyncio.run(main())\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, queue.url], input="\n".join(map(str, ids)), text=True, check=True, timeout=60
    )
    wait_until(lambda: queue.value("select count(*) from qw.finished") == 200, 30)

    assert set(queue.column("select distinct status from qw.tasks")) <= {"completed", "cancelled"}
    assert queue.value("select count(*) from qw.cancel_request") == 0
    queue.expect_whole()


@pytest.mark.slow
def test_everything_frozen_together_costs_nothing(private_daemons: Daemons, private_server: PrivateServer) -> None:
    one, two = private_daemons().ready(), private_daemons("--queues", "other").ready()
    with opened(private_daemons.url) as queue:
        id = queue.put_one("nap", seconds=3)
        wait_until(lambda: one.marks("begin"))
        time.sleep(LEASE + 0.5)  # so that both could judge the other
    pids = postgres(private_server)
    for daemon in (one, two):
        daemon.freeze()
    signal_all(pids, "STOP")
    time.sleep(LEASE + 1)
    signal_all(pids, "CONT")
    for daemon in (two, one):
        daemon.thaw()
    with opened(private_daemons.url) as queue:
        queue.wait_for([id], "completed")
        assert queue.value("select count(*) from qw.worker where dead_at is not null") == 0
        assert queue.value("select crashes from qw.finished") == 0


def postgres(server: PrivateServer) -> list[int]:
    """The processes of a server."""
    from qw import embedded

    running = embedded.running(server.home)
    assert running is not None
    children = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True)
    return [running.pid, *map(int, children.stdout.split())]


def signal_all(pids: list[int], name: str) -> None:
    subprocess.run(["kill", f"-{name}", *map(str, pids)], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("what", ["schema", "database"])
def test_a_database_made_anew_beneath_a_daemon_gets_all_that_the_start_wrote(
    daemons: Daemons, server: Server, own_url: str, tmp_path: Path, what: str
) -> None:
    (tmp_path / "w.yaml").write_text(
        "version: 1\nworkflows: {mine: {steps: [{id: s, type: nap, with: {seconds: 0}}]}}\n"
    )
    daemon = daemons(
        "--workflows", str(tmp_path / "w.yaml"), url=own_url, QW_BROKER="postgres", QW_EVENT_LOG="1h"
    ).ready()
    with opened(own_url) as queue:
        id = queue.put_one("nap", seconds=60)
        wait_until(lambda: daemon.marks("begin"))
        wait_until(lambda: queue.column("select state from qw.relay") == ["up"])
        written = written_at_the_start(queue)
        if what == "schema":
            queue.connection.execute("drop schema qw cascade")
    if what == "database":
        name = conninfo_to_dict(own_url)["dbname"]
        with opened(server.url) as admin:
            admin.connection.execute(f'drop database "{name}" with (force)'.encode())
            time.sleep(0.5)
            admin.connection.execute(f'create database "{name}"'.encode())
    migrated(own_url)

    with opened(own_url) as queue:
        wait_until(lambda: written_at_the_start(queue) == written)
        queue.wait_for(queue.put("nap", 3, seconds=0), "completed")
        wait_until(lambda: queue.value("select count(*) from qw.event where type = 'task.completed'") == 3)
        assert queue.value("select count(*) from qw.tasks where id = %s", id) == 0
        daemon.send(signal.SIGTERM)  # what ran belongs to nobody: it is interrupted, and its result is written nowhere
        assert daemon.exit_code() == 0
        assert queue.value("select count(*) from qw.finished") == 3


def written_at_the_start(queue: Queue) -> list[object]:
    """What a daemon's start leaves in the database, but for its worker's number."""
    return [
        queue.column("select name from qw.type order by name"),
        queue.column("select name from qw.workflow order by name"),
        queue.column("select type from qw.wanted order by type"),
        queue.column("select state from qw.relay r join qw.worker w on w.id = r.worker"),
        queue.column("select pid from qw.worker where dead_at is null and stopped_at is null"),
    ]


def test_what_the_database_refuses_is_told_everywhere_in_its_own_words_until_it_is_mended(
    daemons: Daemons, own_url: str, tmp_path: Path
) -> None:
    qw = Qw(environment(QW_DATABASE_URL=own_url, HOME=str(tmp_path), COLUMNS="400"), tmp_path)
    words = 'cannot delete from table "ready" because it does not have a replica identity'
    daemon = daemons(url=own_url).ready()
    with opened(own_url) as queue:
        queue.connection.execute("alter table qw.ready replica identity nothing")
        queue.connection.execute("create publication everything for table qw.ready")
        ids = queue.put("nap", 1, seconds=0)
        wait_until(lambda: queue.value("select trouble from qw.worker"))

        for verb in (("why", str(ids[0])), ("status",), ("doctor",)):
            assert words in " ".join(qw(*verb).out.split()), verb
        (told,) = [line for line in daemon.said("waiting for the database") if line["level"] == "warning"]
        assert words in told["error"]
        assert "SQLSTATE 55000" in told["error"]
        assert "cannot be reached" not in told["error"]

        queue.connection.execute("drop publication everything")
        queue.wait_for(ids, "completed")
        wait_until(lambda: queue.value("select trouble is null from qw.worker"))
        assert queue.value("select count(*) from qw.attempt") == 0
