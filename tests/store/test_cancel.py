from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from qw.core.task.ending import Cancelled, Failed, HandedBack, Snoozed
from qw.store import claims, tasks
from qw.store.connection import Connection, connect_guarded
from qw.store.ids import new_id
from tests.given import (
    claimed,
    column,
    ended,
    enqueued,
    expect_whole,
    finished,
    homes,
    new_task,
    registered,
    running,
    status,
    until_somebody_waits,
    value,
)

HOUR, LONG_AGO = timedelta(hours=1), datetime(2000, 1, 1, tzinfo=UTC)


async def cancel(conn: Connection, *ids: UUID, running: bool = False) -> list[str]:
    answers = await tasks.cancel(conn, ids, running=running, reason="not wanted")
    return [answers[id].code for id in ids]


async def test_what_waits_is_cancelled_at_once(conn: Connection) -> None:
    ready, scheduled, again = await enqueued(
        conn, new_task(unique_key="k", queue="q"), new_task(delay=HOUR), new_task(run_id=new_id())
    )

    assert await cancel(conn, ready, scheduled, again) == ["cancelled"] * 3

    assert [await status(conn, id) for id in (ready, scheduled, again)] == ["cancelled"] * 3
    assert await column(conn, "select distinct error from qw.finished") == ["not wanted"]
    assert await value(conn, "select count(*) from qw.advance") == 1
    assert await value(conn, "select count(*) from qw.cancel_request") == 0
    await expect_whole(conn)


async def test_a_retrying_task_is_cancelled_with_its_numbers(conn: Connection) -> None:
    [claim] = await running(conn)
    await claims.end(conn, [ended(claim, Failed(error="x", after=HOUR))])

    assert await cancel(conn, claim.id) == ["cancelled"]

    [task] = await tasks.get(conn, [claim.id])
    assert (task.status, task.attempt, task.retries) == ("cancelled", 1, 1)
    await expect_whole(conn)


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [(None, "completed"), (Failed(error="x", final=True), "failed"), (Cancelled(), "was_cancelled")],
)
async def test_what_is_final_stays_so(conn: Connection, outcome: Failed | Cancelled | None, answer: str) -> None:
    [id] = await finished(conn, outcome)

    assert await cancel(conn, id, running=True) == [answer]
    assert await value(conn, "select count(*) from qw.cancel_request") == 0
    await expect_whole(conn)


async def test_an_unknown_id_is_missing(conn: Connection) -> None:
    assert await cancel(conn, new_id(), running=True) == ["missing"]
    assert await value(conn, "select count(*) from qw.cancel_request") == 0


async def test_a_running_task_is_left_alone_unless_asked_for(conn: Connection) -> None:
    [claim] = await running(conn)

    assert await cancel(conn, claim.id) == ["processing"]
    assert await value(conn, "select count(*) from qw.cancel_request") == 0
    assert await cancel(conn, claim.id, running=True) == ["asked"]
    assert await cancel(conn, claim.id) == ["processing"]
    assert await column(conn, "select running from qw.cancel_request") == [True]
    assert await homes(conn, claim.id) == ["running"]


async def test_asking_a_running_task_to_stop_is_notified(conn: Connection, other: Connection) -> None:
    [claim] = await running(conn)
    await other.execute("listen qw_cancel")

    await cancel(conn, claim.id, running=True)

    assert len([n async for n in other.notifies(timeout=5, stop_after=1)]) == 1


@pytest.mark.parametrize("outcome", [Failed(error="x"), Snoozed(delay=HOUR), HandedBack()])
async def test_a_request_outlives_the_attempt_until_the_task_is_final(
    conn: Connection, outcome: Failed | Snoozed | HandedBack
) -> None:
    [claim] = await running(conn)
    await cancel(conn, claim.id, running=True)
    await claims.end(conn, [ended(claim, outcome)])

    assert await tasks.settle_cancels(conn) == 1

    assert await status(conn, claim.id) == "cancelled"
    assert await value(conn, "select count(*) from qw.cancel_request") == 0
    await expect_whole(conn)


async def test_open_requests_leave_running_tasks_alone(conn: Connection) -> None:
    [claim] = await running(conn)
    await cancel(conn, claim.id, running=True)

    assert await tasks.settle_cancels(conn) == 0
    assert await homes(conn, claim.id) == ["running"]


async def test_a_cancel_waits_for_a_claim_on_its_way(conn: Connection, other: Connection) -> None:
    [id] = await enqueued(conn)
    worker = await registered(conn)
    async with other.transaction():
        await claimed(other, worker)
        answer = asyncio.create_task(cancel(conn, id))
        await until_somebody_waits(other)

    assert await answer == ["processing"]
    assert await homes(conn, id) == ["running"]
    await expect_whole(conn)


async def test_a_cancel_cannot_slip_between_two_moves(conn: Connection, other: Connection) -> None:
    """The promoter has taken it from scheduled; the row in ready is not visible to the statement that waited."""
    [id] = await enqueued(conn, new_task(delay=timedelta(milliseconds=1)))
    async with other.transaction():
        assert await claims.promote(other, cursor=LONG_AGO, limit=10)
        answer = asyncio.create_task(cancel(conn, id))
        await until_somebody_waits(other)

    assert await answer == ["cancelled"]
    assert await status(conn, id) == "cancelled"
    await expect_whole(conn)


async def test_cancels_and_claims_at_once_leave_each_task_one_end(url: str, conn: Connection) -> None:
    ids = await enqueued(conn, *(new_task(unique_key=f"k{n}") for n in range(200)))
    worker = await registered(conn)

    async def claim_and_end() -> None:
        async with await connect_guarded(url, name="qw test") as own:
            while held := await claimed(own, worker, room=5):
                await claims.end(own, [ended(claim) for claim in held])

    async def cancel_all(some: list[UUID]) -> None:
        async with await connect_guarded(url, name="qw test") as own:
            for start in range(0, len(some), 10):
                await cancel(own, *some[start : start + 10])

    await asyncio.gather(claim_and_end(), claim_and_end(), cancel_all(ids), cancel_all(ids[::-1]))

    statuses = await column(conn, "select distinct status from qw.tasks")
    assert set(statuses) <= {"completed", "cancelled"}
    assert await value(conn, "select count(*) from qw.cancel_request") == 0
    await expect_whole(conn)
