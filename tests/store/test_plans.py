"""What people ask for is answered from indexes: rows looked at in tables of 60,000, by PostgreSQL's own count."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from benchmarks.growth import FILL_FINISHED, FILL_READY
from qw.client import Client
from qw.core.task import Status
from qw.core.why import MOST_AHEAD
from qw.store import tasks
from qw.store.connection import Connection
from qw.store.tasks import Filter
from tests.given import column, value

SIZE = 30_000  # tasks that wait, and as many that are finished; one in a hundred of these failed
BATCH = 20
LOOKED_AT = """
    select sum(pg_stat_get_xact_tuples_returned(c.oid)) from pg_class c
     where c.relnamespace = 'qw'::regnamespace and c.relkind in ('r', 'i')"""


@pytest.fixture
async def full(url: str, conn: Connection) -> AsyncIterator[Client]:
    """A client, as commands have it, of a queue with many tasks that the planner knows of, in a transaction."""
    for fill in (FILL_READY, FILL_FINISHED):
        await conn.execute(fill.encode(), {"n": SIZE})
    await conn.execute("vacuum (analyze)")  # what earlier tests left dead is read too
    async with Client(url, size=1) as client:
        async with client.connection() as mine:
            await mine.execute("begin")
        yield client
    await conn.execute("truncate qw.task, qw.ready, qw.finished, qw.tally")


async def looked_at(client: Client) -> int:
    """Rows of tables and entries of indexes that were read in the client's transaction."""
    async with client.connection() as conn:
        return int(await value(conn, LOOKED_AT))


async def first(client: Client, query: str, *, of: int = 1) -> list[UUID]:
    async with client.connection() as conn:
        return await column(conn, f"{query} limit {of}")


async def test_the_status_counts_no_big_table(full: Client) -> None:
    found = await full.health.overview()

    assert found.failures[0].failed == SIZE // 100
    assert await looked_at(full) < SIZE // 10


@pytest.mark.parametrize(
    ("query", "most"),
    [
        ("select task_id from qw.ready order by seq", 1000),
        ("select task_id from qw.ready order by seq desc", MOST_AHEAD + 1000),
        ("select task_id from qw.finished where status = 'failed'", 1000),
    ],
)
async def test_why_reads_as_far_as_it_counts_and_no_further(full: Client, query: str, most: int) -> None:
    [id] = await first(full, query)
    before = await looked_at(full)

    assert await full.tasks.why(id)

    assert await looked_at(full) - before < most


async def test_a_page_of_a_list_reads_about_a_page(full: Client) -> None:
    for match in (Filter(), Filter(status=Status.PENDING), Filter(status=Status.FAILED), Filter(type="noop")):
        before = await looked_at(full)

        assert len(await full.tasks.find(match, limit=BATCH)) == BATCH

        assert await looked_at(full) - before < BATCH * 50


Act = Callable[[Connection, list[UUID]], Awaitable[dict[UUID, Any]]]
CHANGES: dict[str, tuple[str, Act]] = {
    "retry": ("select task_id from qw.finished where status = 'failed'", tasks.retry),
    "cancel": ("select task_id from qw.ready", lambda c, ids: tasks.cancel(c, ids, running=False, reason="test")),
    "requeue": ("select task_id from qw.finished", tasks.requeue),
    "compensate": (
        "select task_id from qw.finished where status = 'completed'",
        lambda c, ids: tasks.compensate(c, ids, reason="test"),
    ),
}


@pytest.mark.parametrize("verb", CHANGES)
async def test_a_batch_of_a_bulk_verb_reads_about_a_batch(full: Client, verb: str) -> None:
    query, act = CHANGES[verb]
    ids = await first(full, query, of=BATCH)
    before = await looked_at(full)

    async with full.connection() as conn:
        answers = await act(conn, ids)

    assert len(answers) == BATCH
    assert await looked_at(full) - before < BATCH * 50
