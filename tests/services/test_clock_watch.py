"""Clocks that are off, and a database clock that is set: told, and without harm."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from qw.client import Client
from qw.clock import Clock, steady
from qw.core.schedule.document import parse_schedule
from qw.core.task.payload import Json
from qw.services.liveness.clock_watch import ClockWatch
from qw.services.upkeep.scheduler import Scheduler
from qw.store import queues, workers
from qw.store.connection import Connection, ReconnectingConnection
from tests.given import column, registered, value

MINUTE = timedelta(minutes=1)
EACH = "select to_char(tick at time zone 'UTC', 'HH24:MI') from qw.schedule_fire where reason is null order by tick"


@pytest.fixture
async def link(url: str) -> AsyncIterator[ReconnectingConnection]:
    link = ReconnectingConnection(url, name="qw test clock")
    yield link
    await link.close()


async def at_the_minute(conn: Connection) -> datetime:
    """The last full minute of the database's clock."""
    now: datetime = await value(conn, "select date_trunc('minute', statement_timestamp())")
    return now


@pytest.mark.parametrize("misfire", ["once", "skip", "all"])
async def test_a_clock_set_forward_and_back_loses_no_tick_and_fires_none_twice(
    url: str, conn: Connection, link: ReconnectingConnection, misfire: str
) -> None:
    start = await at_the_minute(conn)
    document: Json = {"cron": "* * * * *", "type": "noop", "misfire": misfire}
    async with Client(url, size=1) as client:
        await client.schedules.add(parse_schedule("s", document), clock=start)
    scheduler = Scheduler(link, lambda lanes: None)
    await scheduler.step(clock=start + MINUTE)
    for ahead in (30, 31):  # the clock is half an hour ahead for two minutes, then it is right again
        while await scheduler.step(clock=start + ahead * MINUTE):
            pass

    await ClockWatch(link, lambda: 0).step()
    for minute in range(2, 35):
        await scheduler.step(clock=start + minute * MINUTE)

    fired = Counter(await column(conn, EACH))
    assert fired == {f"{start + minute * MINUTE:%H:%M}": 1 for minute in range(1, 35)}
    assert await value(conn, "select count(*) from qw.task") == 34


async def test_a_mark_that_is_not_in_the_future_stays(conn: Connection, url: str, link: ReconnectingConnection) -> None:
    async with Client(url, size=1) as client:
        await client.schedules.add(parse_schedule("s", {"cron": "* * * * *", "type": "noop"}))
    mark = await value(conn, "select mark from qw.schedule")

    await ClockWatch(link, lambda: 0).step()

    assert await value(conn, "select mark from qw.schedule") == mark


async def test_a_rate_is_held_up_no_longer_than_its_period_by_a_clock_set_back(
    conn: Connection, link: ReconnectingConnection
) -> None:
    await conn.execute("select qw.set_limits('q', null, 10, interval '1 minute', null, null, null, null)")
    await conn.execute("insert into qw.rate values ('q', false, '', now() + interval '1 hour')")

    await ClockWatch(link, lambda: 0).step()

    left = await value(conn, "select full_at - now() from qw.rate")
    assert timedelta(0) < left <= MINUTE
    assert await queues.clamp_rates(conn) == 0


async def test_skew_is_told_once_and_shown_with_the_worker(
    conn: Connection, link: ReconnectingConnection, caplog: pytest.LogCaptureFixture
) -> None:
    clock, worker = Clock(), await registered(conn)
    clock.measured(steady(), steady(), await value(conn, "select extract(epoch from now())::float8 - 3600"))
    watch = ClockWatch(link, lambda: worker, of=clock)

    await watch.step()
    await watch.step()

    (row,) = await workers.living(conn)
    assert abs(row.skew - timedelta(hours=1)) < MINUTE
    (said,) = (record for record in caplog.records if "clock of this machine differs" in record.message)
    assert said.levelno == logging.WARNING


@pytest.mark.parametrize(("seconds", "said"), [(600.0, "set forward"), (-600.0, "set back"), (0.2, None)])
async def test_a_database_clock_that_is_set_is_told(
    link: ReconnectingConnection, caplog: pytest.LogCaptureFixture, seconds: float, said: str | None
) -> None:
    clock, now = Clock(), steady()
    clock.measured(now, now, 1e9)
    watch = ClockWatch(link, lambda: 0, of=clock)
    await watch.step()
    clock.measured(now + 10, now + 10, 1e9 + 10 + seconds)

    await watch.step()
    await watch.step()

    found = [record.message for record in caplog.records if "database clock was set" in record.message]
    assert len(found) == (said is not None)
    assert all(said in message for message in found if said)
