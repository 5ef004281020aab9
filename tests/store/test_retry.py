from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from qw.core.task.ending import Cancelled, Failed
from qw.store import claims, tasks, workers
from qw.store.connection import Connection, connect
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
    value,
)

HOUR = timedelta(hours=1)


async def retry(conn: Connection, *ids: UUID) -> list[str]:
    answers = await tasks.retry(conn, ids)
    return [answers[id].code for id in ids]


@pytest.mark.parametrize("outcome", [Failed(error="boom", final=True), Cancelled(reason="boom")])
async def test_a_final_task_runs_again_with_a_fresh_budget(conn: Connection, outcome: Failed | Cancelled) -> None:
    [id] = await finished(conn, outcome)

    assert await retry(conn, id) == ["retried"]

    assert await homes(conn, id) == ["ready"]
    [attempt] = await tasks.attempts(conn, id)
    assert (attempt.outcome, attempt.error, attempt.attempt) == ("superseded", "boom", 1)
    [claim] = await claimed(conn, await registered(conn))
    assert (claim.attempt, claim.retries, claim.crashes) == (2, 0, 0)
    await expect_whole(conn)


async def test_a_retrying_task_goes_now_with_a_fresh_budget(conn: Connection) -> None:
    [claim] = await running(conn)
    await claims.end(conn, [ended(claim, Failed(error="x", after=HOUR))])

    assert await retry(conn, claim.id) == ["retried"]

    [again] = await claimed(conn, await registered(conn))
    assert (again.attempt, again.retries) == (2, 0)
    await expect_whole(conn)


async def test_what_waits_runs_or_is_completed_is_not_retried(conn: Connection) -> None:
    [done] = await finished(conn)
    [held] = await running(conn)
    ready, later = await enqueued(conn, new_task(), new_task(delay=HOUR))

    assert await retry(conn, done, held.id, ready, later, new_id()) == [
        "completed", "processing", "pending", "pending", "missing",
    ]  # fmt: skip
    assert await column(conn, "select count(*) from qw.attempt") == [0]
    await expect_whole(conn)


async def test_a_retry_takes_its_unique_key_again(conn: Connection) -> None:
    [id] = await finished(conn, Failed(error="x", final=True), new_task(unique_key="k"))

    assert await retry(conn, id) == ["retried"]
    assert await column(conn, "select task_id from qw.unique_key") == [id]
    await expect_whole(conn)


async def test_a_retry_whose_unique_key_is_taken_is_refused_alone(conn: Connection) -> None:
    held_back, free = await finished(
        conn, Failed(error="x", final=True), new_task(unique_key="k"), new_task(unique_key="other")
    )
    [holder] = await enqueued(conn, new_task(unique_key="k"))

    assert await retry(conn, held_back, free) == ["key_taken", "retried"]
    assert await column(conn, "select task_id from qw.unique_key where key = 'k'") == [holder]
    assert await status(conn, held_back) == "failed"
    await expect_whole(conn)


async def test_two_retries_at_once_make_one(url: str, conn: Connection) -> None:
    ids = await finished(conn, Failed(error="x", final=True), *(new_task() for _ in range(50)))
    one, two = [await connect(url, name="qw test") for _ in range(2)]

    answers = await asyncio.gather(tasks.retry(one, ids), tasks.retry(two, ids[::-1]))

    await one.close()
    await two.close()
    assert all(sorted(answer[id].code for answer in answers) == ["pending", "retried"] for id in ids)
    await expect_whole(conn)


async def test_who_waits_is_notified_of_a_retry(conn: Connection, other: Connection) -> None:
    [id] = await finished(conn, Failed(error="x", final=True), new_task(queue="q", priority=3))
    await workers.wait(conn, await registered(conn), [])
    await other.execute("listen qw_ready")

    await retry(conn, id)

    assert [n.payload async for n in other.notifies(timeout=5, stop_after=1)] == ["q 3"]


async def test_cancels_retries_and_ends_of_the_same_ids_do_not_deadlock(url: str, conn: Connection) -> None:
    """Each locks its rows in id order, whatever order the ids were given in."""
    ids = await enqueued(conn, *(new_task(unique_key=f"k{n}") for n in range(60)))
    worker = await registered(conn)

    async def act(turn: int) -> None:
        async with await connect(url, name="qw test") as own:
            for n in range(15):
                order = ids if (n + turn) % 2 else ids[::-1]
                await tasks.cancel(own, order, running=False, reason="x")
                await tasks.retry(own, order[::-1])
                held = await claimed(own, worker, room=20)
                await claims.end(own, [ended(claim, Failed(error="x", final=True)) for claim in held[::-1]])

    await asyncio.gather(*(act(turn) for turn in range(4)))

    assert await value(conn, "select count(*) from qw.task") == 60
    await expect_whole(conn)
