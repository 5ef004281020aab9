"""Clocks are set while daemons run: the database's or a daemon's, forwards and back. Nobody alive is declared dead."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from qw import embedded
from qw.client import Client
from qw.core.task.payload import Json
from qw.core.workflow import parse_workflow
from qw.embedded import programs
from tests.databases import PrivateServer, private_home, template, wait_until
from tests.e2e.daemon_process import LEASE, Daemons
from tests.e2e.queue import Queue
from tests.given import migrated
from tests.processes import slowed

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
STEPS = ("+600", "-3600", "+86400")

pytestmark = pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime")


class SteppingClock:
    """The real-time clock of the processes that have ``environment``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        self._file.write_text(f"{offset}\n")
        self._file.chmod(0o644)


@pytest.fixture
def clock() -> Iterator[SteppingClock]:
    with private_home() as home:
        yield SteppingClock(home / "offset")


@pytest.fixture
def stepping_url(clock: SteppingClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database on a server with that clock."""
    plain = programs.environment()
    with private_home() as home:
        monkeypatch.setattr(embedded, "environment", lambda: plain | clock.environment)
        server = PrivateServer(home)
        monkeypatch.undo()
        with template(server, migrated) as made, made.clone() as url:
            yield url


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Daemons]]:
    made: list[Daemons] = []

    def on(url: str) -> Daemons:
        made.append(Daemons(url, tmp_path))
        return made[-1]

    yield on
    assert [text for daemons in made for text in daemons.end()] == []


def test_a_step_of_the_databases_clock_kills_nobody(
    clock: SteppingClock, stepping_url: str, start: Callable[[str], Daemons]
) -> None:
    daemons = start(stepping_url)
    one, two = daemons().ready(), daemons().ready()
    with psycopg.connect(stepping_url, autocommit=True) as connection:
        expect_that_steps_cost_nothing(Queue(connection, stepping_url), clock)
        assert queue_clock_moved(connection, clock)
    assert one.is_alive
    assert two.is_alive


def test_a_step_of_a_daemons_clock_kills_nobody(clock: SteppingClock, daemons: Daemons, queue: Queue) -> None:
    one, two = daemons(**clock.environment).ready(), daemons().ready()
    expect_that_steps_cost_nothing(queue, clock)
    assert one.is_alive
    assert two.is_alive


def test_a_frozen_daemon_is_found_though_the_databases_clock_was_set_back(
    clock: SteppingClock, stepping_url: str, start: Callable[[str], Daemons]
) -> None:
    daemons = start(stepping_url)
    frozen, _other = daemons("--queues", "default").ready(), daemons("--queues", "other").ready()
    with psycopg.connect(stepping_url, autocommit=True) as connection:
        queue = Queue(connection, stepping_url)
        id = queue.put_one("nap", seconds=60)
        wait_until(lambda: frozen.marks("begin"))
        frozen.freeze()
        clock.set("-3600")
        frozen_at = time.monotonic()

        queue.wait_for([id], "pending")

        assert time.monotonic() - frozen_at < slowed(LEASE + 3)
        assert queue.field(id, "crashes") == 0


@pytest.mark.parametrize("offset", ["+3600", pytest.param("-3600", marks=pytest.mark.slow)])
def test_a_process_whose_clock_is_off_does_what_any_other_does(
    clock: SteppingClock, daemons: Daemons, queue: Queue, offset: str
) -> None:
    clock.set(offset)
    daemon = daemons(**clock.environment).ready()
    queue.value("select qw.schedule_add('each', 'noop', every => '1 second')")
    run = asyncio.run(started(queue.url))
    command = [sys.executable, "-m", "qw", "enqueue", "noop", "--in", "1s", "--wait", "--database-url", queue.url]
    done = subprocess.run(command, env=os.environ | clock.environment, capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    wait_until(lambda: queue.value("select status from qw.run where id = %s", run) == "completed")
    wait_until(lambda: queue.value("select count(*) from qw.schedule_fire") >= 3)
    assert queue.column("select distinct reason from qw.schedule_fire") == [None]
    assert queue.value("select count(*) = count(distinct (headers ->> 'tick')) from qw.task where headers ? 'tick'")
    assert queue.value("select max(mark) <= now() from qw.schedule")
    assert queue.value("select bool_and(abs(extract(epoch from created_at - now())) < 60) from qw.task")
    made_at = "('x' || left(id::text, 8) || substring(id::text from 10 for 4))::bit(48)::bigint / 1000.0"
    assert queue.value(f"select max(abs({made_at} - extract(epoch from created_at)))::float8 < 60 from qw.task")
    wait_until(lambda: daemon.said("clock of this machine differs"))
    skew = queue.value("select extract(epoch from skew)::float8 from qw.worker")
    assert abs(skew - float(offset)) < 60


@pytest.mark.slow
def test_a_step_of_the_databases_clock_loses_no_tick_and_fires_none_twice(
    clock: SteppingClock, stepping_url: str, start: Callable[[str], Daemons]
) -> None:
    daemons = start(stepping_url)
    daemons().ready(), daemons().ready()
    with psycopg.connect(stepping_url, autocommit=True) as connection:
        queue = Queue(connection, stepping_url)
        queue.value("select qw.schedule_add('each', 'noop', every => '1 second')")
        fired = "select count(*) from qw.schedule_fire where reason is null and tick < %s"
        for offset in ("+0", "+600", "+0"):
            clock.set(offset)
            since = queue.value("select clock_timestamp()")
            until = since + timedelta(seconds=60)
            before = queue.value(fired, until)
            wait_until(lambda: queue.value(fired, until) >= before + 2, 10)  # noqa: B023 - called at once

        assert queue.value("select count(*) = count(distinct (headers ->> 'tick')) from qw.task")
        assert queue.value("select count(*) from qw.task") == queue.value(
            "select count(*) from qw.schedule_fire where reason is null"
        )
        queue.expect_whole()


async def started(url: str) -> UUID:
    """A run of two steps, whose second one a daemon makes."""
    steps: Json = [{"id": "a", "type": "noop"}, {"id": "b", "type": "noop", "needs": ["a"]}]
    async with Client(url, size=1) as client:
        await client.workflows.save(parse_workflow("two", {"steps": steps}))
        return await client.runs.start("two")


def expect_that_steps_cost_nothing(queue: Queue, clock: SteppingClock) -> None:
    ids = queue.put("nap", 4, seconds=LEASE * 2)
    wait_until(lambda: queue.value("select count(*) from qw.running") == 4)
    time.sleep(LEASE)  # so long a judge must have watched
    for offset in STEPS:
        clock.set(offset)
        time.sleep(LEASE / 4)

    queue.wait_for(ids, "completed")

    assert queue.column("select distinct (attempt, retries, crashes)::text from qw.finished") == ["(1,0,0)"]
    assert queue.value("select count(*) from qw.attempt") == 0
    assert queue.value("select count(*) from qw.worker where dead_at is not null") == 0


def queue_clock_moved(connection: psycopg.Connection[tuple[object, ...]], clock: SteppingClock) -> bool:
    """Whether the server follows that clock at all: else the test would show nothing."""
    clock.set("+7200")
    row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    clock.set("+0")
    assert row is not None
    return abs(float(str(row[0])) - time.time() - 7200) < 60
