"""Promoter, tick, pruner, task log and the supervision of services."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from random import random
from typing import Any

import pytest

from qw.core.errors import Unavailable
from qw.core.task import Lane, Policy
from qw.core.task.ending import Failed, end
from qw.daemon.loops import FIRST_PAUSE, LONGEST_PAUSE, keep_running, retry_seconds
from qw.services.execution.task_log import BATCH, MOST, TaskLog
from qw.services.poller import pause
from qw.services.upkeep.promoter import LONG_AGO, Promoter
from qw.store import claims, tasks, workers
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.ids import new_id
from tests.given import comes_true, ended, enqueued, homes, new_task, running, value

HOUR = timedelta(hours=1)


@pytest.fixture
async def link(url: str) -> AsyncIterator[ReconnectingConnection]:
    link = ReconnectingConnection(url, name="qw test chores")
    yield link
    await link.close()


class Woken(list[Lane]):
    def __call__(self, lanes: Iterable[Lane]) -> None:
        self.extend(lanes)


async def make_due(conn: Connection) -> None:
    await conn.execute("update qw.scheduled set run_at = run_at - interval '2 hours'")


async def test_the_promoter_moves_what_is_due_and_wakes_its_lanes(
    conn: Connection, link: ReconnectingConnection
) -> None:
    woken = Woken()
    promoter = Promoter(link, woken)
    [due] = await enqueued(conn, new_task(queue="q", delay=HOUR))
    await make_due(conn)
    [later] = await enqueued(conn, new_task(delay=HOUR))

    assert await promoter.step() is False

    assert woken == [Lane("q", 5)]
    assert (await homes(conn, due), await homes(conn, later)) == (["ready"], ["scheduled"])


async def test_the_promoter_sleeps_until_the_next_known_time(link: ReconnectingConnection) -> None:
    promoter = Promoter(link, Woken())
    assert promoter.max_wait() > 60

    promoter.expect(5.0)
    assert 4.9 < promoter.max_wait() <= 5.0
    promoter.expect(None)
    assert promoter.max_wait() > 60


async def test_the_promoter_wakes_when_a_nearer_time_is_heard_of(link: ReconnectingConnection) -> None:
    promoter = Promoter(link, Woken())
    promoter.max_wait()

    promoter.expect(5.0)

    assert promoter.bell.is_set()


async def test_the_promoter_is_not_woken_by_what_it_waits_for_anyway(link: ReconnectingConnection) -> None:
    promoter = Promoter(link, Woken())
    promoter.expect(5.0)
    promoter.max_wait()
    promoter.bell.clear()

    promoter.expect(5.0)
    promoter.expect(None)

    assert not promoter.bell.is_set()


async def test_the_promoter_keeps_what_it_hears_while_it_looks(link: ReconnectingConnection) -> None:
    promoter = Promoter(link, Woken())
    looking = asyncio.create_task(promoter.step())
    await asyncio.sleep(0)

    promoter.expect(0.5)

    await looking
    assert promoter.max_wait() <= 0.5


async def test_a_cheap_look_leaves_no_cursor_behind_which_a_late_commit_could_hide(
    conn: Connection, other: Connection, link: ReconnectingConnection
) -> None:
    promoter = Promoter(link, Woken(), healthy_seconds=60.0)  # however busy the machine is
    async with other.transaction():
        [late] = await enqueued(other, new_task(delay=HOUR))
        await other.execute("update qw.scheduled set run_at = now() - interval '1 minute'")
        await enqueued(conn, new_task(delay=HOUR))
        await conn.execute("update qw.scheduled set run_at = now() where run_at > now()")
        await promoter.step()

    poll = await workers.poll(conn, 0, cursor=promoter.cursor)
    assert poll.due is not None  # so the tick sees it
    assert poll.due < 0
    await promoter.step()
    assert await homes(conn, late) == ["ready"]


async def test_a_row_behind_the_promoters_cursor_is_found(conn: Connection, link: ReconnectingConnection) -> None:
    promoter = Promoter(link, Woken(), healthy_seconds=0.0)
    await enqueued(conn, new_task(delay=HOUR))
    await make_due(conn)
    await promoter.step()
    assert promoter.cursor > LONG_AGO
    assert promoter.max_wait() <= 10  # it looks again by itself
    [earlier] = await enqueued(conn, new_task(delay=HOUR / 2))
    await make_due(conn)

    async with asyncio.timeout(60):
        while await homes(conn, earlier) != ["ready"]:
            await promoter.step()


async def test_log_lines_are_stored_in_their_order_and_batches(conn: Connection, link: ReconnectingConnection) -> None:
    log, id = TaskLog(link), new_id()
    await log.add([(id, 1, "INFO", str(n), None) for n in range(BATCH + 1)])
    flushed = asyncio.create_task(log.flushed())

    assert await log.step()
    await asyncio.sleep(0)
    assert not flushed.done()
    assert not await log.step()
    await flushed

    assert [line.message for line in await tasks.read_logs(conn, id)] == [str(n) for n in range(BATCH + 1)]


@pytest.mark.parametrize(
    "bad", [(1, "\ud800", "x"), (1, 30, "x"), (1, "INFO", "a\0b"), (2**40, "INFO", "x"), (1, "INFO", None)], ids=repr
)
async def test_a_log_line_that_cannot_be_stored_costs_no_other_line(
    conn: Connection, link: ReconnectingConnection, bad: Any
) -> None:
    log, id = TaskLog(link), new_id()
    lines = [(id, 1, "INFO", str(n), None) for n in range(20)]

    await log.add([*lines[:7], (id, *bad, None), *lines[7:]])
    await log.step()

    stored = [line.message for line in await tasks.read_logs(conn, id)]
    assert [message for message in stored if message != "x"] == [str(n) for n in range(20)]
    assert await log.flushed(within=0)


async def test_more_lines_than_there_is_room_for_are_taken_in_parts(
    conn: Connection, link: ReconnectingConnection
) -> None:
    log, id = TaskLog(link), new_id()
    adding = asyncio.create_task(log.add([(id, 1, "INFO", str(n), None) for n in range(MOST + BATCH)]))

    while not adding.done() or len(log._lines):
        await log.step()
        await asyncio.sleep(0)

    assert await value(conn, "select count(*) from qw.task_log") == MOST + BATCH


async def test_log_lines_wait_while_the_database_is_away(conn: Connection, link: ReconnectingConnection) -> None:
    log, id = TaskLog(link), new_id()
    await log.add([(id, 1, "INFO", "one", None)])
    await log.step()
    await conn.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                       " where application_name = 'qw test chores'")  # fmt: skip
    await log.add([(id, 1, "INFO", "two", None)])

    with pytest.raises(Unavailable):
        await log.step()
    await log.step()

    assert [line.message for line in await tasks.read_logs(conn, id)] == ["one", "two"]


class Shaky:
    """A service that fails as it is told."""

    name = "shaky"

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.steps = 0
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return 3600.0

    async def step(self) -> bool:
        self.steps += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return False


@contextlib.asynccontextmanager
async def kept(service: Shaky) -> AsyncIterator[None]:
    loop = asyncio.create_task(keep_running(service))
    try:
        yield
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def reached(service: Shaky, steps: int) -> None:
    async def has_come() -> bool:
        return service.steps >= steps

    await comes_true(has_come)


async def test_a_service_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = Shaky(Unavailable("away"), RuntimeError("odd"))

    async with kept(service):
        await reached(service, 3)

    assert [r.message for r in caplog.records] == ["waiting for the database", "service failed", "service recovered"]


async def test_a_bell_wakes_a_patient_service() -> None:
    service = Shaky()
    async with kept(service):
        await reached(service, 1)
        service.bell.set()
        await reached(service, 2)


def test_pauses_double_and_end_somewhere() -> None:
    assert FIRST_PAUSE / 2 <= retry_seconds(1) <= FIRST_PAUSE
    assert all(LONGEST_PAUSE / 2 <= retry_seconds(n) <= LONGEST_PAUSE for n in (10, 1000, 10**9))


async def test_a_storm_of_failures_is_spread_out(conn: Connection) -> None:
    held = await running(conn, *(new_task() for _ in range(300)))
    ends = [end(Failed(error="x"), retries=0, crashes=0, policy=Policy(), chance=random()) for _ in held]

    await claims.end(conn, [ended(claim, ending=ending) for claim, ending in zip(held, ends, strict=True)])

    spread = await value(conn, "select count(distinct width_bucket(extract(epoch from run_at - now()), 0, 1, 10)) "
                               "from qw.scheduled")  # fmt: skip
    assert spread >= 8


def test_polls_that_are_dear_are_not_repeated_soon_nor_put_off_for_long() -> None:
    assert pause(1.0, [0.001]) == 1.0
    assert pause(1.0, [0.5, 0.03, 0.5]) == 1.5  # a machine that is busy, or a lock, made two of them dear
    assert pause(1.0, [60.0, 60.0, 60.0]) == 2.0
