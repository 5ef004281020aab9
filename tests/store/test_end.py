from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from qw.core.errors import Invalid
from qw.core.task import Status
from qw.core.task.ending import Cancelled, Completed, Ending, Failed, HandedBack, Outcome, Snoozed, WorkerDied
from qw.store import claims, tasks
from qw.store.connection import Connection, translated
from qw.store.ids import new_id
from tests.given import (
    claimed,
    column,
    ended,
    enqueued,
    expect_whole,
    homes,
    new_task,
    registered,
    running,
    status,
    value,
)

SOON, LONG_AGO = timedelta(minutes=1), datetime(2000, 1, 1, tzinfo=UTC)
ALL: list[tuple[Outcome, str, str, str | None]] = [
    (Completed(result={"a": 1}), "finished", "completed", None),
    (Failed(error="boom"), "scheduled", "retrying", "error"),
    (Failed(error="too slow", outcome="timed_out"), "scheduled", "retrying", "timed_out"),
    (Failed(error="boom", final=True), "finished", "failed", None),
    (Snoozed(delay=SOON), "scheduled", "pending", None),
    (Cancelled(), "finished", "cancelled", None),
    (HandedBack(), "ready", "pending", None),
    (WorkerDied(worker=7), "ready", "pending", "worker_died"),
]


@pytest.mark.parametrize(("outcome", "home", "now", "history"), ALL)
async def test_each_ending_has_its_table(
    conn: Connection, outcome: Outcome, home: str, now: str, history: str | None
) -> None:
    [claim] = await running(conn, new_task(unique_key="k"))
    await conn.execute("insert into qw.cancel_request (task_id, running) values (%s, true)", [claim.id])

    mine = await claims.end(conn, [ended(claim, outcome)])

    final = home == "finished"
    assert mine == {claim.fence}
    assert (await homes(conn, claim.id), await status(conn, claim.id)) == ([home], now)
    assert await column(conn, "select outcome from qw.attempt") == ([history] if history else [])
    assert await value(conn, "select count(*) from qw.unique_key") == (0 if final else 1)
    assert await value(conn, "select count(*) from qw.cancel_request") == (0 if final else 1)
    await expect_whole(conn)


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (HandedBack(), []),
        (Snoozed(delay=SOON), []),
        (Failed(error="boom"), ["task.retrying"]),
        (WorkerDied(worker=7), ["task.rescued"]),
        (Failed(error="boom", final=True), ["task.failed"]),
    ],
)
async def test_a_task_that_is_handed_back_is_not_told_of_as_another_try(
    conn: Connection, outcome: Outcome, told: list[str]
) -> None:
    [claim] = await running(conn, new_task())
    await conn.execute("insert into qw.wanted (type) select unnest('{task.retrying,task.rescued,task.failed}'::text[])")

    await claims.end(conn, [ended(claim._replace(retries=1), outcome)])

    assert await column(conn, "select type from qw.outbox") == told


async def test_many_ends_of_all_kinds_in_one_statement(conn: Connection) -> None:
    held = await running(conn, *(new_task(queue=f"q{n}") for n in range(len(ALL))))
    rows = [ended(claim, outcome) for claim, (outcome, *_) in zip(held, ALL, strict=True)]

    mine = await claims.end(conn, rows[::-1])

    assert len(mine) == len(ALL)
    assert [await homes(conn, claim.id) for claim in held] == [[home] for _, home, _, _ in ALL]
    await expect_whole(conn)


async def test_a_finished_row_tells_the_whole_attempt(conn: Connection) -> None:
    [claim] = await running(conn)

    await claims.end(conn, [ended(claim, Completed(result=[1, "zwei"]), seconds=2.0)])

    [task] = await tasks.get(conn, [claim.id])
    assert task.finished_at is not None
    assert task.started_at is not None
    assert task.finished_at - task.started_at == timedelta(seconds=2)
    assert (task.result, task.error, task.attempt, task.worker) == ([1, "zwei"], None, 1, await worker_of(conn))


async def worker_of(conn: Connection) -> int:
    number: int = await value(conn, "select max(id) from qw.worker")
    return number


async def test_a_failure_waits_for_its_backoff_and_counts(conn: Connection) -> None:
    [claim] = await running(conn)

    await claims.end(conn, [ended(claim, Failed(error="boom", after=SOON))])

    row = await (
        await conn.execute("select run_at - now(), attempt, retries, crashes, reason from qw.scheduled")
    ).fetchone()
    assert row is not None
    assert SOON - timedelta(seconds=5) < row[0] <= SOON
    assert row[1:] == (1, 1, 0, "retry")
    [attempt] = await tasks.attempts(conn, claim.id)
    assert (attempt.error, attempt.attempt, attempt.outcome) == ("boom", 1, "error")


async def test_a_hand_back_keeps_the_old_place_and_a_retry_gets_a_new_one(conn: Connection) -> None:
    first, second = await running(conn, new_task(), new_task())
    [third] = await enqueued(conn, new_task())

    await claims.end(conn, [ended(second, Failed(error="", after=timedelta(0))), ended(first, HandedBack())])
    await claims.promote(conn, cursor=LONG_AGO, limit=9)

    again = await claimed(conn, await registered(conn))
    assert [c.id for c in again] == [first.id, third, second.id]
    assert again[0].seq == first.seq


async def test_what_never_ran_spends_no_attempt(conn: Connection) -> None:
    [claim] = await running(conn)

    await claims.end(conn, [ended(claim, HandedBack(), attempt=claim.attempt - 1, seconds=None)])

    [again] = await claimed(conn, await registered(conn))
    assert (again.attempt, again.retries, again.crashes) == (1, 0, 0)


@pytest.mark.parametrize("outcome", [Completed(), Failed(error="x"), Snoozed(delay=SOON), HandedBack()])
async def test_lost_lease_cannot_write(conn: Connection, outcome: Outcome) -> None:
    [stale] = await running(conn, new_task(unique_key="k", run_id=None))
    await claims.end(conn, [ended(stale, WorkerDied(worker=1))])
    [current] = await claimed(conn, await registered(conn))

    mine = await claims.end(conn, [ended(stale, outcome, run_id=new_id())])

    assert mine == set()
    assert await homes(conn, stale.id) == ["running"]
    assert await value(conn, "select fence from qw.running") == current.fence != stale.fence
    assert await column(conn, "select outcome from qw.attempt") == ["worker_died"]
    assert await value(conn, "select count(*) from qw.advance") == 0
    assert await value(conn, "select count(*) from qw.unique_key") == 1
    await expect_whole(conn)


async def test_an_end_is_written_once(conn: Connection) -> None:
    [claim] = await running(conn)
    await claims.end(conn, [ended(claim)])

    assert await claims.end(conn, [ended(claim, Completed(result="again"))]) == set()
    assert await value(conn, "select result from qw.finished") is None
    await expect_whole(conn)


async def test_the_end_of_a_step_tells_the_advancer_once_per_run(conn: Connection) -> None:
    run, task = new_id(), new_task()
    await tasks.enqueue(conn, [replace(task, run_id=run), new_task(run_id=run), new_task()])
    held = await claimed(conn, await registered(conn))

    await claims.end(conn, [ended(claim) for claim in held])

    assert await column(conn, "select run_id from qw.advance") == [run]


@pytest.mark.parametrize("outcome", [Failed(error="x"), Snoozed(delay=SOON), HandedBack()])
async def test_a_step_that_is_not_final_is_no_news(conn: Connection, outcome: Outcome) -> None:
    [claim] = await running(conn, new_task(run_id=new_id()))

    await claims.end(conn, [ended(claim, outcome)])

    assert await value(conn, "select count(*) from qw.advance") == 0


async def test_only_the_own_unique_key_is_freed(conn: Connection) -> None:
    [first] = await running(conn, new_task(unique_key="k"))
    await conn.execute("update qw.unique_key set task_id = %s", [new_id()])

    await claims.end(conn, [ended(first)])

    assert await value(conn, "select count(*) from qw.unique_key") == 1


async def test_one_end_that_is_refused_writes_nothing_of_its_statement(conn: Connection) -> None:
    """Plain completions have a statement of their own."""
    plain, good, bad = await running(conn, new_task(), new_task(unique_key="k"), new_task())
    wrong = Ending(status=Status.FAILED, retries=0, crashes=0)  # a failure without an error

    with pytest.raises(Invalid, match="check constraint"), translated():
        await claims.end(conn, [ended(plain), ended(good), ended(bad)._replace(ending=wrong)])

    assert [await homes(conn, claim.id) for claim in (good, bad)] == [["running"], ["running"]]
    await expect_whole(conn)


RECORDED: list[tuple[Outcome, bool]] = [
    (Completed(), True),
    (Failed(error="x"), True),
    (Failed(error="x", final=True), True),
    (Cancelled(), True),
    (WorkerDied(worker=1), False),
    (HandedBack(), False),
]


@pytest.mark.parametrize(("outcome", "known"), RECORDED)
async def test_the_own_end_of_a_fence_is_found_again(conn: Connection, outcome: Outcome, known: bool) -> None:
    [claim] = await running(conn)
    await claims.end(conn, [ended(claim, outcome)])

    assert await claims.recorded(conn, [ended(claim)]) == ({claim.fence} if known else set())


async def test_the_end_of_a_task_retried_since_is_found_too(conn: Connection) -> None:
    [claim] = await running(conn)
    await claims.end(conn, [ended(claim, Failed(error="x", final=True))])
    await tasks.retry(conn, [claim.id])

    assert await claims.recorded(conn, [ended(claim)]) == {claim.fence}


async def test_a_lost_result_is_kept_in_the_history_once(conn: Connection) -> None:
    [claim] = await running(conn)
    late = ended(claim, Completed(result={"late": True}))

    await claims.record_lost(conn, 7, [late])
    await claims.record_lost(conn, 7, [late, ended(claim._replace(id=new_id()))])

    [attempt] = await tasks.attempts(conn, claim.id)
    assert (attempt.outcome, attempt.result, attempt.worker, attempt.fence) == (
        "lease_lost",
        {"late": True},
        7,
        claim.fence,
    )
    assert await homes(conn, claim.id) == ["running"]


async def test_the_third_crash_is_the_last(conn: Connection) -> None:
    [claim] = await running(conn, new_task(unique_key="k"))

    for crash in (1, 2, 3):
        await claims.end(conn, [ended(claim, WorkerDied(worker=crash))])
        if crash < 3:
            [claim] = await claimed(conn, await registered(conn))
            assert (claim.attempt, claim.retries, claim.crashes) == (crash + 1, 0, crash)

    [task] = await tasks.get(conn, [claim.id])
    assert (task.status, task.error) == ("failed", "worker 3 died while it held this task (3 of 3)")
    await expect_whole(conn)
