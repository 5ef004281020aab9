"""A URL that names several servers: qw works on the one that takes writes, wherever it stands in the list."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from qw.store.connection import connect, connect_blocking, connect_guarded
from qw.store.listening import notifications
from qw.store.pool import Pool
from tests.cli.program import Qw, environment
from tests.e2e.daemon_process import Daemons
from tests.given import migrated, value
from tests.standby import ServerPair, server_pair

IN_RECOVERY = "select pg_is_in_recovery()"


@pytest.fixture(scope="module")
def made_pair() -> Iterator[ServerPair]:
    with server_pair(migrated) as pair:
        yield pair


@pytest.fixture
def pair(made_pair: ServerPair) -> ServerPair:
    """The second server is the standby, and the first in the URL."""
    return made_pair


@pytest.fixture
def qw(pair: ServerPair, tmp_path: Path) -> Qw:
    return Qw(environment(QW_DATABASE_URL=pair.url, QW_HOME=str(tmp_path), HOME=str(tmp_path)), tmp_path)


async def test_every_kind_of_connection_finds_the_server_that_takes_writes(pair: ServerPair) -> None:
    with psycopg.connect(pair.second.url) as standby:
        assert standby.execute(IN_RECOVERY).fetchone() == (True,)

    with connect_blocking(pair.url, name="qw test") as conn:
        assert conn.execute(IN_RECOVERY).fetchone() == (False,)
    for opener in (connect, connect_guarded):
        async with await opener(pair.url, name="qw test") as opened:
            assert await value(opened, IN_RECOVERY) is False
    pool = Pool(pair.url, size=1, name="qw test")
    await pool.open()
    async with pool.connection() as pooled:
        assert await value(pooled, IN_RECOVERY) is False
    await pool.close()
    async with aclosing(cast("AsyncGenerator[Any]", notifications(pair.url, 1))) as heard:
        assert await anext(heard)


def test_several_hosts_in_the_environment_are_understood_too(pair: ServerPair, qw: Qw) -> None:
    hosts = f"{pair.second.data},{pair.first.data}"

    done = qw.process("enqueue", "noop", QW_DATABASE_URL="", PGHOST=hosts, PGUSER="qw", PGDATABASE="postgres")

    assert done.code == 0, done.err


def test_a_read_only_server_alone_is_told_as_that(pair: ServerPair, qw: Qw) -> None:
    assert qw("status", QW_DATABASE_URL=pair.second.url).code == 0

    done = qw("enqueue", "noop", QW_DATABASE_URL=pair.second.url)

    assert (done.code, "read-only" in done.err) == (75, True), done.err


def test_a_daemon_follows_a_failover_and_a_failback(pair: ServerPair, qw: Qw, tmp_path: Path) -> None:
    daemons = Daemons(pair.url, tmp_path)
    daemon = daemons().ready()

    assert qw("enqueue", "noop", "--wait", "--timeout", "20s").code == 0
    pair.first.stop()
    pair.second.promote()
    assert qw("enqueue", "noop", "--wait", "--timeout", "20s").code == 0
    pair.first.start(standby=True)  # the old primary comes back as a standby, last in the list
    assert qw("enqueue", "noop", "--wait", "--timeout", "20s").code == 0
    pair.second.shut_down()
    pair.first.promote()
    pair.second.start(standby=True)  # and now first in the list
    assert qw("enqueue", "noop", "--wait", "--timeout", "20s").code == 0

    assert daemon.is_alive
    late = daemons().ready()
    assert late.is_alive
    assert list(daemons.end()) == []
