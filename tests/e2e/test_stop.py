"""A daemon that is told to stop is gone soon, whatever handlers do, and nothing of it runs beside its successor."""

from __future__ import annotations

import signal
import time
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.databases import PrivateServer, wait_until
from tests.e2e.daemon_process import Daemon, Daemons
from tests.e2e.queue import Queue

APP = ("--app", "tests.e2e.stubborn_app:app", "--grace", "300ms")


def begun(daemon: Daemon, count: int = 1) -> None:
    wait_until(lambda: len(daemon.marks("begin")) == count)


def row(queue: Queue, id: UUID) -> tuple[Any, Any, Any]:
    return queue.status(id), queue.field(id, "retries"), queue.field(id, "crashes")


THREADS = ("to_thread", "own_thread", "plain")


@pytest.mark.parametrize(
    "types", [("swallow", *THREADS), ("block",), *(pytest.param((one,), marks=pytest.mark.slow) for one in THREADS)]
)
def test_a_handler_that_does_not_stop_ends_with_the_process_and_begins_again_after_it(
    daemons: Daemons, queue: Queue, types: tuple[str, ...]
) -> None:
    first = daemons(*APP).ready()
    tasks = [queue.put_one(type) for type in types]
    begun(first, len(types))
    second = daemons(*APP).ready()
    first.send(signal.SIGTERM)
    code = first.exit_code(6)

    assert len(first.marks("begin")) == len(types)  # its successor, which is idle, has not begun
    assert code == 0
    begun(second, 2 * len(types))
    assert [row(queue, task) for task in tasks] == [("processing", 0, 0)] * len(types)
    assert {mark.pid for mark in second.marks("begin")} == {first.process.pid, second.process.pid}


@pytest.mark.parametrize("type", ["swallow", "block"])
def test_a_second_signal_shortens_the_grace(daemons: Daemons, queue: Queue, type: str) -> None:
    daemon = daemons(*APP, "--grace", "60s").ready()
    task = queue.put_one(type)
    begun(daemon)
    daemon.send(signal.SIGTERM)
    time.sleep(0.2)
    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(6) == 0
    assert row(queue, task) == ("pending", 0, 0)


def test_a_third_signal_is_the_end(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons(*APP, "--grace", "60s").ready()
    queue.put_one("block")
    begun(daemon)
    for _ in range(3):
        daemon.send(signal.SIGTERM)
        time.sleep(0.1)

    assert daemon.exit_code(2) == 128 + signal.SIGTERM


def test_what_stops_when_told_keeps_its_old_place(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons(*APP, "--concurrency", "1").ready()
    first = queue.put_one("polite")
    begun(daemon)
    queue.put_one("polite")
    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(6) == 0
    assert queue.connection.execute("select task_id from qw.ready order by seq limit 1").fetchone() == (first,)
    assert row(queue, first) == ("pending", 0, 0)


def test_a_time_out_that_a_handler_swallows_costs_its_attempt_at_the_stop(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons(*APP).ready()
    task = queue.put_one("swallow_time_out")
    begun(daemon)
    time.sleep(0.4)
    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(6) == 0
    assert row(queue, task) == ("retrying", 1, 0)


def test_threads_that_handlers_leave_do_not_hold_the_end(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons(*APP).ready()
    task = queue.put_one("leaves_thread")
    wait_until(lambda: row(queue, task)[0] == "completed")
    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(6) == 0
    assert daemon.said("daemon stopped")


def test_without_the_database_the_end_comes_too_and_its_code_says_that_tasks_are_left(
    private_daemons: Daemons, private_server: PrivateServer, private_url: str
) -> None:
    daemon = private_daemons(*APP).ready()
    with psycopg.connect(private_url, autocommit=True) as conn:
        conn.execute("select qw.enqueue('swallow')")
        begun(daemon)
    private_server.stop()
    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(20) == 75
    assert daemon.said("other daemons will rescue them")
