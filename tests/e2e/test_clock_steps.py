"""Clocks are set while daemons run: the database's or a daemon's, forwards and back. Nobody alive is declared dead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from qw import embedded
from qw.embedded import programs
from tests.databases import PrivateServer, private_home, template, wait_until
from tests.e2e.daemon_process import LEASE, Daemons
from tests.e2e.queue import Queue
from tests.given import migrated

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

        queue.wait_for([id], "pending", LEASE + 6)

        assert time.monotonic() - frozen_at < LEASE + 3
        assert queue.field(id, "crashes") == 0


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
