"""Limited queues: what is written to ready waits in held until qw.admit lets it through."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.client import Client
from qw.core.queue.limits import limits_of
from qw.core.task import Claim, Lane, NewTask, Status
from qw.core.task.answer import Answer, AnswerCode
from qw.core.task.ending import Failed, HandedBack, Outcome, Snoozed, WorkerDied
from qw.store import claims, queues, tasks
from qw.store.connection import Connection
from qw.store.ids import new_id
from qw.store.queues import Admitted
from qw.store.tasks import Filter
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
    status,
    until_somebody_waits,
    value,
)

LONG_AGO, HOUR = datetime(2000, 1, 1, tzinfo=UTC), timedelta(hours=1)
LANES = [Lane("q", priority) for priority in range(10)]


async def limit(conn: Connection, **limits: Any) -> None:
    await queues.set_limits(conn, "q", limits_of(limits))


def task(customer: object = None, **fields: Any) -> NewTask:
    payload = {} if customer is None else {"customer": {"id": customer}}
    return new_task(**{"queue": "q", "payload": payload, **fields})


async def put(conn: Connection, *customers: object) -> list[UUID]:
    """A task in ``q`` for each."""
    return await enqueued(conn, *map(task, customers))


async def admit(conn: Connection, *, most: int = 500, place: str = "") -> Admitted:
    return await queues.admit(conn, "q", limit=most, place=place)


async def admitted(conn: Connection) -> list[UUID]:
    """The tasks that have a slot, in the order they were enqueued."""
    return await column(conn, "select task_id from qw.admitted order by task_id")


async def start(conn: Connection) -> list[Claim]:
    return await claimed(conn, await registered(conn), lanes=LANES)


async def end(conn: Connection, held: list[Claim], outcome: Outcome | None = None, **fields: Any) -> None:
    await claims.end(conn, [ended(claim, outcome, **fields) for claim in held])


async def cancel(conn: Connection, *ids: UUID) -> dict[UUID, str]:
    answers = await tasks.cancel(conn, ids, running=False, reason="enough")
    return {id: answer.code for id, answer in answers.items()}


# -- into held


async def test_every_way_into_a_limited_queue_leads_to_held(conn: Connection, url: str) -> None:
    await limit(conn, concurrency=1)
    [one] = await put(conn, 1)
    many = await put(conn, 2, 3)
    async with Client(url) as client:
        await client.enqueue_many([copied := task()])
    keyed = await enqueued(conn, task(unique_key="k"))
    by_sql = await value(conn, "select qw.enqueue('noop', queue => 'q')")
    later = await enqueued(conn, task(delay=HOUR))
    await conn.execute("update qw.scheduled set run_at = now() - interval '1 s'")
    await claims.promote(conn, cursor=LONG_AGO, limit=9)
    [free] = await enqueued(conn, new_task())

    for id in (one, *many, copied.id, *keyed, by_sql, *later):
        assert await homes(conn, id) == ["held"]
        assert await status(conn, id) == "pending"
    assert await homes(conn, free) == ["ready"]
    await expect_whole(conn)


async def test_a_copy_into_several_queues_holds_those_of_the_limited_one_only(conn: Connection, url: str) -> None:
    await limit(conn, concurrency=1)
    async with Client(url) as client:
        await client.enqueue_many(new_task(queue="q" if n % 3 else "other") for n in range(300))

    assert await value(conn, "select count(*) from qw.held where queue = 'q'") == 200
    assert await value(conn, "select count(*) from qw.ready where queue = 'other'") == 100
    await expect_whole(conn)


async def test_a_retry_by_hand_waits_in_held_again(conn: Connection) -> None:
    [failed] = await finished(conn, Failed(error="x", final=True), task())
    await limit(conn, concurrency=1)

    await tasks.retry(conn, [failed])
    assert await homes(conn, failed) == ["held"]
    await conn.execute("update qw.held set retries = 1")
    assert await tasks.retry(conn, [failed]) == {failed: Answer(AnswerCode.RETRIED)}

    assert await homes(conn, failed) == ["held"]
    assert await value(conn, "select retries from qw.held") == 0
    await expect_whole(conn)


async def test_held_tasks_are_found_counted_and_cancelled(conn: Connection) -> None:
    await limit(conn, concurrency=1)
    fresh, tried = await put(conn, 1, 2)
    await conn.execute("update qw.held set retries = 1 where task_id = %s", [tried])

    assert await tasks.find(conn, Filter(status=Status.PENDING), limit=9) == [fresh]
    assert await tasks.find(conn, Filter(status=Status.RETRYING), limit=9) == [tried]
    [counted] = await tasks.stats(conn)
    assert (counted.pending, counted.retrying) == (1, 1)
    assert (await queues.oldest(conn)).keys() == {"q"}

    assert await cancel(conn, fresh, tried) == {fresh: "cancelled", tried: "cancelled"}
    assert (await homes(conn, fresh), await homes(conn, tried)) == (["finished"], ["finished"])
    await expect_whole(conn)


async def test_a_cancel_that_meets_a_task_on_its_way_through_takes_it_there(
    conn: Connection, other: Connection
) -> None:
    await limit(conn, concurrency=1)
    [id] = await put(conn, 1)
    async with other.transaction():
        assert (await admit(other)).moved == 1
        cancelling = asyncio.create_task(cancel(conn, id))
        await until_somebody_waits(other)

    assert await cancelling == {id: "cancelled"}
    await expect_whole(conn)


async def test_a_cancel_that_meets_a_task_on_its_way_into_held_takes_it_there(
    conn: Connection, other: Connection
) -> None:
    await limit(conn, concurrency=1)
    [id] = await enqueued(conn, task(delay=HOUR))
    await conn.execute("update qw.scheduled set run_at = now() - interval '1 s'")
    async with other.transaction():
        await claims.promote(other, cursor=LONG_AGO, limit=9)
        cancelling = asyncio.create_task(cancel(conn, id))
        await until_somebody_waits(other)

    assert await cancelling == {id: "cancelled"}
    await expect_whole(conn)


# -- let through


async def test_as_many_as_the_limit_are_let_through_and_one_more_for_each_that_ends(conn: Connection) -> None:
    await limit(conn, concurrency=2)
    ids = await put(conn, 1, 2, 3, 4)

    first, again = await admit(conn), await admit(conn)
    running = await start(conn)
    during = await admit(conn)
    await end(conn, running[:1])
    after = await admit(conn)

    assert (first.moved, again.moved, during.moved, after.moved) == (2, 0, 0, 1)
    assert (first.lanes, first.has_held, first.more) == ([Lane("q", 5)], True, False)
    assert {claim.id for claim in running} == set(ids[:2])
    assert await admitted(conn) == sorted([running[1].id, ids[2]])
    await expect_whole(conn)


async def test_priority_goes_before_age_and_the_place_in_line_is_kept(conn: Connection) -> None:
    await limit(conn, concurrency=2)
    await put(conn, 1, 2)
    [urgent] = await enqueued(conn, task(priority=0))
    seqs: dict[UUID, int] = dict(await (await conn.execute("select task_id, seq from qw.held")).fetchall())

    done = await admit(conn)

    ready: dict[UUID, int] = dict(await (await conn.execute("select task_id, seq from qw.ready")).fetchall())
    assert set(done.lanes) == {Lane("q", 0), Lane("q", 5)}
    assert urgent in ready
    assert ready.items() <= seqs.items()


async def test_each_value_of_a_key_has_its_own_limit(conn: Connection) -> None:
    await limit(conn, key="payload.customer.id", per_key=1)
    ids = await put(conn, "zoe", "zoe", "ivan", None, None, "")

    await admit(conn)

    # without a value, or with an empty one, they share one limit
    assert await admitted(conn) == sorted([ids[0], ids[2], ids[3]])
    assert await column(conn, "select key from qw.admitted order by key") == ["", "ivan", "zoe"]


async def test_keys_take_turns_and_a_long_line_hides_nobody(conn: Connection, url: str) -> None:
    await limit(conn, concurrency=3, key="payload.customer.id", per_key=3)
    async with Client(url) as client:
        await client.enqueue_many(task("busy") for _ in range(2000))
    await put(conn, "a", "b", "c", "d")

    keys, place = [], ""
    for _ in range(2):
        done = await admit(conn, place=place)
        place = done.next_place
        running = await start(conn)
        keys.append(await column(conn, "select key from qw.admitted order by key"))
        await end(conn, running)

    assert keys == [["a", "b", "busy"], ["busy", "c", "d"]]


async def test_every_key_has_its_first_before_any_has_its_second(conn: Connection) -> None:
    await limit(conn, concurrency=4, key="payload.customer.id", per_key=4)
    await put(conn, *["a"] * 4, *["b"] * 4, *["c"] * 4)

    await admit(conn)

    assert await column(conn, "select key from qw.admitted order by key") == ["a", "a", "b", "c"]


async def test_a_pass_begins_at_its_place_and_goes_all_the_way_round(conn: Connection) -> None:
    await limit(conn, concurrency=2, key="payload.customer.id", per_key=1)
    await put(conn, "a", "b", "x")

    await admit(conn, place="m")

    assert await column(conn, "select key from qw.admitted order by key") == ["a", "x"]


async def test_a_round_goes_through_any_number_of_keys(conn: Connection, url: str) -> None:
    await limit(conn, key="payload.customer.id", per_key=1)
    async with Client(url) as client:
        await client.enqueue_many(task(f"{n % 1500:04}") for n in range(3000))
    await conn.execute("""
        with first as (
          delete from qw.held where key < '1400'
             and seq = any(array(select min(seq) from qw.held group by key)) returning *
        ), slots as (
          insert into qw.admitted (task_id, queue, key, attempt) select task_id, queue, key, attempt from first
        )
        insert into qw.running (task_id, fence, attempt, retries, crashes, seq, queue, priority, worker)
          select task_id, seq, 1, 0, 0, seq, queue, priority, 1 from first""")

    moved, place, more = 0, "", True
    while more:
        done = await admit(conn, place=place)
        moved, place, more = moved + done.moved, done.next_place, done.more

    assert moved == 100
    assert await value(conn, "select max(n) from (select count(*) as n from qw.admitted group by key) a") == 1
    running = {claim.id: claim for claim in await start(conn)}
    [far] = await column(conn, "select task_id from qw.admitted where key = '1450'")
    await end(conn, [running[far]])
    assert (await admit(conn)).moved == 1  # at once, though a pass from the first key does not come so far


async def test_a_pass_lets_no_more_through_than_it_is_told_and_says_that_there_are_more(conn: Connection) -> None:
    await limit(conn, concurrency=100)
    await put(conn, *range(5))

    first, second = await admit(conn, most=3), await admit(conn, most=3)

    assert [(done.moved, done.more, done.has_held) for done in (first, second)] == [(3, True, True), (2, False, False)]


async def test_a_long_value_of_a_key_is_told_by_its_digest(conn: Connection) -> None:
    await limit(conn, key="payload.customer.id", per_key=1)
    long = "".join(str(new_id()) for _ in range(500))  # of what does not compress
    await put(conn, long, long + "y", {"not": "text"}, 7)

    assert (await admit(conn)).moved == 4


async def test_a_paused_queue_lets_nothing_through(conn: Connection) -> None:
    await limit(conn, concurrency=1)
    await queues.pause(conn, "q", by="zoe")
    await put(conn, 1)

    assert (await admit(conn)).moved == 0
    await queues.resume(conn, "q")
    assert (await admit(conn)).moved == 1


# -- slots


@pytest.mark.parametrize("outcome", [None, Failed(error="x"), Failed(error="x", final=True), Snoozed(delay=HOUR)])
async def test_whatever_ends_an_attempt_frees_its_slot(conn: Connection, outcome: Outcome | None) -> None:
    await limit(conn, concurrency=1)
    first, second = await put(conn, 1, 2)
    await admit(conn)

    await end(conn, await start(conn), outcome)
    await admit(conn)

    assert await admitted(conn) == [second]
    assert await homes(conn, first) != ["ready"]


async def test_a_cancelled_task_frees_its_slot(conn: Connection) -> None:
    await limit(conn, concurrency=1)
    first, second = await put(conn, 1, 2)
    await admit(conn)

    await cancel(conn, first)
    await admit(conn)

    assert await admitted(conn) == [second]


async def test_a_claim_handed_back_unstarted_keeps_its_slot_and_place(conn: Connection) -> None:
    await limit(conn, concurrency=1)
    first, _ = await put(conn, 1, 2)
    await admit(conn)

    await end(conn, await start(conn), HandedBack(), attempt=0)
    after = await admit(conn)

    assert await homes(conn, first) == ["ready"]
    assert (after.moved, await admitted(conn)) == (0, [first])


async def test_a_rescued_task_waits_for_a_slot_first_in_line(conn: Connection) -> None:
    await limit(conn, concurrency=1)
    first, _ = await put(conn, 1, 2)
    await admit(conn)

    await end(conn, await start(conn), WorkerDied(worker=1))

    assert await homes(conn, first) == ["held"]
    assert await admitted(conn) == []
    await admit(conn)
    assert await admitted(conn) == [first]
    await expect_whole(conn)


async def test_two_admitters_at_once_keep_to_the_limit(conn: Connection, other: Connection) -> None:
    await limit(conn, concurrency=2)
    await put(conn, *range(6))
    async with other.transaction():
        assert (await admit(other)).moved == 2
        waiting = asyncio.create_task(admit(conn))
        await until_somebody_waits(other)

    assert (await waiting).moved == 0
    assert len(await admitted(conn)) == 2


async def test_a_slot_whose_task_is_just_coming_back_is_not_freed(conn: Connection, other: Connection) -> None:
    await limit(conn, concurrency=1)
    first, _ = await put(conn, 1, 2)
    await admit(conn)
    await end(conn, await start(conn), Snoozed(delay=HOUR, reason="unserved"), attempt=0)
    await conn.execute("update qw.scheduled set run_at = now() - interval '1 s'")

    async with other.transaction():
        await claims.promote(other, cursor=LONG_AGO, limit=9)
        during = await admit(conn)
    after = await admit(conn)

    assert (during.moved, after.moved) == (0, 0)
    assert (await homes(conn, first), await admitted(conn)) == (["ready"], [first])


# -- rates


async def test_a_rate_lets_a_bucket_through_and_then_one_at_a_time(conn: Connection) -> None:
    await limit(conn, rate="3/h")
    await put(conn, *range(6))

    first = await admit(conn)
    await end(conn, await start(conn))
    second = await admit(conn)
    await conn.execute("update qw.rate set full_at = full_at - interval '21 minutes'")
    third = await admit(conn)

    assert (first.moved, second.moved, third.moved) == (3, 0, 1)
    for done in (first, second):
        assert done.seconds is not None
        assert 1190 < done.seconds <= 1200


async def test_a_bucket_that_was_not_used_holds_no_more_than_its_size(conn: Connection) -> None:
    await limit(conn, rate="2/h")
    await put(conn, *range(6))
    await admit(conn)
    await end(conn, await start(conn))
    await conn.execute("update qw.rate set full_at = now() - interval '1 year'")

    assert (await admit(conn)).moved == 2
    await end(conn, await start(conn))
    assert (await admit(conn)).moved == 0


async def test_what_is_let_through_and_not_claimed_counts_against_the_bucket(conn: Connection) -> None:
    await limit(conn, rate="2/h")
    await put(conn, *range(6))
    await admit(conn)
    await conn.execute("delete from qw.rate")

    assert (await admit(conn)).moved == 0
    await start(conn)
    assert (await admit(conn)).moved == 2


async def test_each_value_of_a_key_has_its_own_rate_beside_the_queues(conn: Connection) -> None:
    await limit(conn, rate="3/h", key="payload.customer.id", per_key_rate="2/h")
    await put(conn, *["zoe"] * 4, *["ivan"] * 4)

    first = await admit(conn)
    keys = await column(conn, "select key from qw.admitted")
    await end(conn, await start(conn))
    await conn.execute("update qw.rate set full_at = now() where not is_of_key")
    place = first.next_place
    second = await admit(conn, place=place)

    assert first.moved == 3
    assert (set(keys), second.moved) == ({"zoe", "ivan"}, 1)
    assert second.seconds is not None
    assert 1790 < second.seconds <= 1800


async def test_a_new_rate_is_not_held_up_by_the_bucket_of_the_old_one(conn: Connection) -> None:
    await limit(conn, rate="1/d")
    await put(conn, 1, 2)
    await admit(conn)
    await end(conn, await start(conn))

    await limit(conn, rate="100/s")

    assert await value(conn, "select full_at <= now() + interval '1 second' from qw.rate") is True
    await queues.prune_rates(conn, limit=10)
    await conn.execute("update qw.rate set full_at = now() - interval '1 s'")
    await queues.prune_rates(conn, limit=10)
    assert await value(conn, "select count(*) from qw.rate") == 0


# -- set and dropped


async def test_a_new_limit_takes_in_what_waits_and_counts_what_runs(conn: Connection, url: str) -> None:
    await put(conn, *range(3))
    running = await start(conn)
    waiting = await put(conn, *range(1500))

    async with Client(url) as client:
        await client.queues.limit("q", limits_of({"concurrency": 4}))

    assert await value(conn, "select count(*) from qw.held") == 1500
    assert set(await admitted(conn)) == {claim.id for claim in running}
    assert (await admit(conn)).moved == 1
    assert await homes(conn, waiting[0]) == ["ready"]
    await expect_whole(conn)


async def test_a_limit_that_is_dropped_lets_all_go_in_their_old_order(conn: Connection, url: str) -> None:
    await limit(conn, concurrency=1, rate="1/h")
    ids = await put(conn, *range(1200))
    await admit(conn)

    async with Client(url) as client:
        assert await client.queues.unlimit("q") is True
        assert await client.queues.unlimit("q") is False

    assert await column(conn, "select task_id from qw.ready order by seq") == ids
    assert await value(conn, "select count(*) from qw.admitted") == 0
    assert await value(conn, "select count(*) from qw.rate") == 0
    [new] = await put(conn, 1)
    assert await homes(conn, new) == ["ready"]
    await expect_whole(conn)


async def test_limits_are_amended_one_by_one(url: str) -> None:
    async with Client(url) as client:
        await client.queues.amend_limits("q", {"concurrency": 1, "key": "payload.a", "per_key": 1})
        found = await client.queues.amend_limits("q", {"concurrency": 5, "rate": "1/s"})

    assert found == limits_of({"concurrency": 5, "rate": "1/s", "key": "payload.a", "per_key": 1})


async def test_another_key_sorts_what_is_held_anew(conn: Connection) -> None:
    await limit(conn, concurrency=10)
    await put(conn, "zoe", "zoe", "ivan")
    await admit(conn, most=1)

    await limit(conn, key="payload.customer.id", per_key=1)
    await admit(conn)

    assert sorted(await column(conn, "select key from qw.admitted")) == ["ivan", "zoe"]


async def test_what_slipped_past_a_new_limit_is_brought_under_it(conn: Connection, other: Connection) -> None:
    async with other.transaction():
        [early] = await put(other, 1)
        await limit(conn, concurrency=1)
        assert await queues.hold(conn, "q", limit=9) == 0
    assert await homes(conn, early) == ["ready"]

    assert await queues.hold(conn, "q", limit=9) == 1
    assert await homes(conn, early) == ["held"]
    await admit(conn)
    assert await queues.hold(conn, "q", limit=9) == 0


async def test_a_task_without_facts_is_held_too(conn: Connection) -> None:
    await limit(conn, key="payload.a", per_key=1)
    await conn.execute("insert into qw.ready (task_id, queue, priority) values (%s, 'q', 5)", [new_id()])

    assert await value(conn, "select key from qw.held") == ""
