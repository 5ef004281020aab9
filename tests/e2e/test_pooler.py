"""Behind pgbouncer in transaction mode, where neither LISTEN nor session locks nor prepared statements hold."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from qw.store import completion
from tests.databases import private_home, wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue
from tests.processes import free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs pgbouncer")


@pytest.fixture
def pooled(url: str) -> Iterator[str]:
    """The test's database through a pooler."""
    with private_home() as folder:
        yield from _through_pooler(url, folder)


def _through_pooler(url: str, folder: Path) -> Iterator[str]:
    port = free_port()
    there = conninfo_to_dict(url)
    target = " ".join(f"{key}={there[key]}" for key in ("host", "port", "user", "password") if there.get(key))
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = {target}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 100\n"
    )
    config.chmod(0o644)
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    process = subprocess.Popen([PROGRAM or "", str(config)], user=user, stderr=subprocess.DEVNULL)
    through = make_conninfo(url, host="127.0.0.1", port=port)
    try:
        wait_until(lambda: _answers(through))
        yield through
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_behind_a_pooler_silence_alone_tells_who_is_dead(daemons: Daemons, queue: Queue, pooled: str) -> None:
    first = daemons(url=pooled).ready()
    queue.wait_for(queue.put("nap", 20, seconds=0), "completed")
    id = queue.put_one("once", seconds=30)
    wait_until(lambda: first.marks("effect"))
    other = daemons(url=pooled).ready()
    first.kill()

    queue.wait_for([id], "completed", 60)

    assert queue.outcomes(id) == ["worker_died"]
    assert other.said("connected through a pooler")
    queue.expect_whole()


def test_a_shell_completes_names_behind_a_pooler(queue: Queue, pooled: str) -> None:
    queue.value("select qw.enqueue('nap', queue => 'reports')")

    assert completion.rows(pooled, "queues", {"start": "rep"}) == [("reports", "1 waiting or running")]


def test_a_direct_address_beside_the_pooler_gives_back_locks_and_listen(
    daemons: Daemons, queue: Queue, pooled: str
) -> None:
    daemon = daemons(url=pooled, QW_LISTEN_URL=queue.url, QW_TICK="30s", QW_LEASE="60s").ready()
    wait_until(lambda: queue.value("select exists (select 1 from qw.idle)"))

    queue.wait_for(queue.put("nap", seconds=0), "completed", 10)

    assert not daemon.said("behind a pooler")
    assert queue.value("select count(*) from pg_locks where locktype = 'advisory' and classid = 7177") >= 1


def test_behind_a_pooler_no_heartbeat_is_lost_to_a_prepared_statement(
    daemons: Daemons, queue: Queue, pooled: str
) -> None:
    both = [daemons(url=pooled, QW_HEARTBEAT="100ms").ready() for _ in range(2)]  # in turn on the same few sessions
    wait_until(lambda: queue.value("select min(beats) > 20 from qw.worker"))
    queue.wait_for(queue.put("nap", 20, seconds=0), "completed")

    for daemon in both:
        assert daemon.said("heartbeat") == []
        assert [line for line in daemon.log if "prepared statement" in str(line)] == []
