from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from qw.client import Client
from qw.client.history import RecentMinutes
from qw.core.errors import Unavailable
from qw.core.history import ChartRange
from qw.core.task import measure
from qw.handlers import Handlers
from qw.services.execution.in_flight import Stop
from qw.services.upkeep import measures as services
from qw.store import measures
from qw.store.connection import Connection
from tests.given import new_task
from tests.services.workshop import Workshop, workshop

app = Handlers()


@app.handler("quick")
async def quick() -> None:
    return


@app.handler("broken")
async def broken() -> None:
    raise ValueError("no")


@app.handler("held")
async def held() -> None:
    await asyncio.sleep(60)


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Workshop]:
    async with workshop(url, app) as opened:
        yield opened


async def counts(conn: Connection, name: str) -> dict[str, int]:
    """How many of what *name* measures are stored, by the last label."""
    return {each.labels[-1]: sum(each.counts) for each in await measures.find(conn) if each.name == name}


async def test_attempts_are_counted_by_result_and_timed(shop: Workshop) -> None:
    await shop.run(*(new_task(type="quick") for _ in range(3)), new_task(type="broken", max_retries=1))

    await shop.measures.step()

    assert await counts(shop.conn, measure.ATTEMPTS) == {"completed": 3, "failed": 1}
    assert await counts(shop.conn, measure.RUN) == {"quick": 3, "broken": 1}
    assert await counts(shop.conn, measure.WAIT) == {"quick": 3, "broken": 1}


async def test_a_wait_begins_when_a_task_could_run(shop: Workshop) -> None:
    [id] = await shop.enqueue(new_task(type="quick"))
    await shop.conn.execute("update qw.ready set at = now() - interval '100 s' where task_id = %s", [id])
    await shop.claim()
    await shop.settle()
    await shop.measures.step()

    [waited] = [each for each in await measures.find(shop.conn) if each.name == measure.WAIT]

    assert 100 <= waited.total < 300


async def test_what_daemons_measured_adds_up(shop: Workshop) -> None:
    for _ in range(2):
        await shop.run(new_task(type="quick"))
        await shop.measures.step()

    assert await counts(shop.conn, measure.ATTEMPTS) == {"completed": 2}
    assert await counts(shop.conn, measure.RUN) == {"quick": 2}


async def test_many_attempts_are_folded_before_they_are_written(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MOST", 10)

    await shop.run(*(new_task(type="quick") for _ in range(25)))
    await shop.measures.step()

    assert await counts(shop.conn, measure.RUN) == {"quick": 25}


async def test_an_attempt_that_lost_its_lease_is_counted_as_that(shop: Workshop) -> None:
    [id] = await shop.enqueue(new_task(type="held"))
    await shop.claim()
    await shop.until(lambda: shop.in_flight.running_task(id))
    await shop.conn.execute("update qw.running set fence = fence + 1000")
    for holding in shop.in_flight:
        holding.interrupt(Stop.TIMEOUT, "too slow")
    await shop.settle()

    await shop.measures.step()

    assert await counts(shop.conn, measure.ATTEMPTS) == {"lease_lost": 1}


async def test_what_never_ran_is_no_attempt(shop: Workshop) -> None:
    await shop.run(new_task(type="nobody_serves_this"))

    await shop.measures.step()

    assert await measures.find(shop.conn) == []


async def test_what_the_database_did_not_take_is_written_later(shop: Workshop) -> None:
    await shop.run(new_task(type="quick"))
    link = shop.links["measures"]
    async with link.use() as conn:
        await conn.execute("set default_transaction_read_only = on")

    with pytest.raises(Unavailable):
        await shop.measures.step()
    await link.close()
    await shop.measures.step()
    await shop.measures.step()

    assert await counts(shop.conn, measure.ATTEMPTS) == {"completed": 1}


async def test_an_idle_daemon_writes_nothing(shop: Workshop) -> None:
    await shop.measures.step()

    assert await measures.find(shop.conn) == []
    assert timedelta(seconds=shop.measures.max_wait()) == timedelta(seconds=5)


async def test_the_history_says_the_same_as_the_metrics_by_minute_and_by_hour(shop: Workshop) -> None:
    for _ in range(2):
        await shop.run(*(new_task(type="quick") for _ in range(3)), new_task(type="broken", max_retries=1))
        await shop.measures.step()

    for span in ("minute", "hour"):
        for queue in ("default", ""):
            found = await (await shop.conn.execute("""
                select name, result, array_agg(counts) from qw.history where span = %s and queue = %s
                 group by name, result order by 1, 2""", [span, queue])).fetchall()  # fmt: skip
            sums = {tuple(labels): [sum(column) for column in zip(*counts, strict=True)] for *labels, counts in found}
            assert sums[measure.ATTEMPTS, "completed"] == [6]
            assert sums[measure.ATTEMPTS, "failed"] == [2]
            stored = [each for each in await measures.find(shop.conn) if each.name == measure.RUN]
            assert sums[measure.RUN, ""] == [sum(column) for column in zip(*(s.counts for s in stored), strict=True)]


async def test_queues_are_sampled_once_a_minute_however_many_daemons_there_are(shop: Workshop) -> None:
    await shop.enqueue(new_task(queue="mail"), new_task(queue="mail"))
    other = services.Measures(shop.measures._link)

    await shop.measures.step()
    await shop.enqueue(new_task(queue="mail"))
    await other.step()

    rows = await (await shop.conn.execute("select span, queue, waiting, enqueued from qw.queue_sample")).fetchall()
    minutes = await (
        await shop.conn.execute("select count(distinct at) from qw.queue_sample where span = 'minute'")
    ).fetchone()
    if minutes == (1,):  # the minute was not over meanwhile
        assert sorted(rows) == [(span, queue, 2, 2) for span in ("hour", "minute") for queue in ("", "mail")]


async def test_the_chart_shows_what_came_in_and_what_ended(shop: Workshop) -> None:
    await shop.measures.step()
    await shop.run(*(new_task(type="quick") for _ in range(3)))
    await shop.measures.step()
    async with Client(shop.url, size=1) as client:
        chart = await client.history.chart(ChartRange.DAY)
        of_queue = await client.history.chart(ChartRange.HOUR, queue="default")
        rates = await client.history.rates()
        waits = await client.history.waits({"p50": 0.5})

    assert sum(chart.outcomes["completed"]) == sum(of_queue.outcomes["completed"]) == 3
    assert sum(n or 0 for n in chart.enqueued) == 3
    assert rates[""].recent == rates["default"].recent
    assert sum(rates[""].recent) == 3
    assert waits["p50"] is not None


async def test_of_the_recent_minutes_only_those_that_may_still_change_are_read_again(shop: Workshop) -> None:
    add = (
        "insert into qw.history (span, at, queue, name, result, counts, total) values ('minute',"
        " date_trunc('minute', now()) - %s * interval '1 minute', '', 'task_attempts', 'failed', '{2}', 0)"
    )
    seen = RecentMinutes()
    async with Client(shop.url, size=1) as client:
        first = (await client.history.rates(minutes=seen))[""]
        for minutes_ago in (1, 20):
            await shop.conn.execute(add, [minutes_ago])
        again, anew = (await client.history.rates(minutes=seen))[""], (await client.history.rates())[""]

    assert sum(first.recent) == 0
    assert (sum(again.recent), again.failed) == (2, 2 / 5)
    assert (sum(anew.recent), anew.failed) == (4, 2 / 5)
