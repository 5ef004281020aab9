from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from qw.core.errors import Unavailable
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
    await shop.until(lambda: shop.holdings.running_task(id))
    await shop.conn.execute("update qw.running set fence = fence + 1000")
    for holding in shop.holdings:
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
