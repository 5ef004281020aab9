from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qw.core.liveness import Death, Observation
from qw.core.task import Lane
from qw.core.task.ending import Failed, Snoozed
from qw.store import claims, tasks, workers
from qw.store.connection import Connection
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
    value,
)

LONG_AGO, HOUR = datetime(2000, 1, 1, tzinfo=UTC), timedelta(hours=1)


async def make_due(conn: Connection) -> None:
    await conn.execute("update qw.scheduled set run_at = run_at - interval '2 hours'")


async def test_what_is_due_becomes_ready_oldest_first(conn: Connection) -> None:
    second, first = await enqueued(conn, new_task(delay=HOUR), new_task(delay=HOUR / 2, queue="q"))
    await make_due(conn)
    [later] = await enqueued(conn, new_task(delay=HOUR))

    moved = await claims.promote(conn, cursor=LONG_AGO, limit=10)

    assert {lane for lane, _ in moved} == {Lane("default", 5), Lane("q", 5)}
    assert await column(conn, "select task_id from qw.ready order by seq") == [first, second]
    assert await homes(conn, later) == ["scheduled"]
    await expect_whole(conn)


async def test_a_promotion_is_bounded_and_looks_no_further_back_than_its_cursor(conn: Connection) -> None:
    old, young, other = await enqueued(conn, *(new_task(delay=HOUR + timedelta(seconds=n)) for n in range(3)))
    await make_due(conn)

    [(_, run_at)] = await claims.promote(conn, cursor=LONG_AGO, limit=1)
    assert await homes(conn, old) == ["ready"]
    assert len(await claims.promote(conn, cursor=run_at + timedelta(seconds=1.5), limit=9)) == 1
    assert (await homes(conn, young), await homes(conn, other)) == (["scheduled"], ["ready"])


async def test_a_promoted_retry_keeps_its_numbers(conn: Connection) -> None:
    [claim] = await running(conn)
    await claims.end(conn, [ended(claim, Failed(error="x", after=timedelta(0)))])

    await claims.promote(conn, cursor=LONG_AGO, limit=9)

    [again] = await claimed(conn, await registered(conn))
    assert (again.attempt, again.retries) == (2, 1)


async def test_parked_tasks_come_back_when_their_type_is_served(conn: Connection) -> None:
    unserved, snoozed, other = await running(conn, new_task("mine"), new_task("mine"), new_task("other"))
    parked = Snoozed(delay=HOUR, reason="unserved")
    await claims.end(conn, [
        ended(unserved, parked), ended(other, parked), ended(snoozed, Snoozed(delay=HOUR, reason="busy")),
    ])  # fmt: skip

    lanes = await claims.release_unserved(conn, ["mine"])

    assert lanes == [Lane("default", 5)]
    assert [await homes(conn, c.id) for c in (unserved, snoozed, other)] == [["ready"], ["scheduled"], ["scheduled"]]


async def test_a_look_sees_who_holds_a_lock_how_they_beat_and_who_is_gone(conn: Connection, other: Connection) -> None:
    me, alive, quiet, dead, stranger = [await registered(conn) for _ in range(5)]
    await workers.hold_too(other, alive)
    await conn.execute("update qw.worker set beats = 7 where id = %s", [alive])
    await conn.execute("update qw.worker set dead_at = now() where id = %s", [dead])
    await running(conn, worker=stranger)
    await conn.execute("delete from qw.worker where id = %s", [stranger])

    looks, gone = await workers.other_workers(conn, worker=me)

    assert {look.id: look for look in looks} == {
        alive: Observation(id=alive, beats=7, locks=True, locked=True),
        quiet: Observation(id=quiet, beats=0, locks=True, locked=False),
    }
    assert gone == [stranger]


async def test_a_dead_worker_is_looked_at_as_long_as_it_has_rows(conn: Connection) -> None:
    me, dead = await registered(conn), await registered(conn)
    await running(conn, worker=dead)
    await conn.execute("update qw.worker set dead_at = now() where id = %s", [dead])

    assert await workers.other_workers(conn, worker=me) == ([], [dead])


@pytest.mark.parametrize("since", ["server - interval '1 day'", "null"])
async def test_a_lock_that_was_never_taken_on_this_server_says_nothing(conn: Connection, since: str) -> None:
    me, old = await registered(conn), await registered(conn)
    await conn.execute(f"update qw.worker set server = {since} where id = %s".encode(), [old])

    [look], _ = await workers.other_workers(conn, worker=me)

    assert (look.locked, look.locks) == (False, False)


async def test_who_beat_again_is_not_declared_dead(conn: Connection) -> None:
    quiet, moving, stopped = [await registered(conn) for _ in range(3)]
    deaths = dict.fromkeys((await workers.other_workers(conn, worker=0))[0], Death.SILENT)
    await workers.wait(conn, quiet, [])
    await conn.execute("update qw.worker set beats = beats + 1 where id = %s", [moving])
    await conn.execute("update qw.worker set stopped_at = now() where id = %s", [stopped])

    assert await workers.mark_dead(conn, deaths) == [quiet]

    assert await column(conn, "select (id, death)::text from qw.worker where dead_at is not null") == [
        f"({quiet},silent)"
    ]
    assert await value(conn, "select count(*) from qw.idle") == 0
    assert await workers.mark_dead(conn, deaths) == []


async def test_orphans_are_the_rows_of_the_workers_named(conn: Connection) -> None:
    dead, alive = await registered(conn), await registered(conn)
    [theirs] = await running(conn, new_task("command", unique_key="k"), worker=dead)
    await running(conn, worker=alive)

    [orphan] = await workers.orphans(conn, [dead])

    assert (orphan.task_id, orphan.fence, orphan.worker) == (theirs.id, theirs.fence, dead)
    assert (orphan.attempt, orphan.unique_key, orphan.type) == (1, "k", "command")


async def test_news_tell_everything_that_polling_must_ask(conn: Connection) -> None:
    worker = await registered(conn)

    async def news() -> workers.PollResult:
        return await workers.poll(conn, worker, cursor=LONG_AGO)

    quiet = await news()
    assert (quiet.lanes, quiet.due) == ([], None)
    assert (quiet.advance, quiet.cancels, quiet.doubts, quiet.draining) == (False, False, False, False)
    await enqueued(conn, new_task(queue="q"), new_task(delay=HOUR))
    await conn.execute("insert into qw.advance (run_id) values (qw.new_id())")
    await conn.execute("insert into qw.cancel_request (task_id, running) values (qw.new_id(), true)")
    await conn.execute("update qw.worker set draining = true")
    await registered(conn)

    told = await news()
    assert told.lanes == [Lane("q", 5)]
    assert told.due is not None
    assert 3590 < told.due <= 3600
    assert (told.advance, told.cancels, told.doubts, told.draining) == (True, True, True, True)


async def test_the_living_are_listed_with_what_they_hold(conn: Connection) -> None:
    holder, _dead = await registered(conn), await registered(conn)
    await running(conn, worker=holder)
    await conn.execute("update qw.worker set dead_at = now() where id = %s", [_dead])

    [alive] = await workers.living(conn)

    assert (alive.id, alive.running, alive.host) == (holder, 1, "here")


async def test_workers_that_ended_are_forgotten_when_nothing_runs_in_their_name(conn: Connection) -> None:
    held, gone, young, alive = [await registered(conn) for _ in range(4)]
    await running(conn, worker=held)
    await conn.execute("update qw.worker set dead_at = now() - interval '2 days' where id = any(%s)", [[held, gone]])
    await conn.execute("update qw.worker set stopped_at = now() where id = %s", [young])

    await workers.prune(conn, age=timedelta(days=1))

    assert await column(conn, "select id from qw.worker order by id") == [held, young, alive]


async def test_stop_requests_reach_running_tasks_of_this_worker_only(conn: Connection) -> None:
    mine, theirs = await registered(conn), await registered(conn)
    [claim] = await running(conn, worker=mine)
    [other] = await running(conn, worker=theirs)
    await tasks.cancel(conn, [claim.id, other.id], running=True, reason="enough")

    assert await workers.asked(conn, mine) == {claim.id: "enough"}


async def test_a_poll_is_a_beat_of_a_worker_that_lives(conn: Connection) -> None:
    worker = await registered(conn)

    first = await workers.poll(conn, worker, cursor=LONG_AGO, memory=1024)
    await workers.poll(conn, worker, cursor=LONG_AGO)
    await conn.execute("update qw.worker set dead_at = now()")
    late = await workers.poll(conn, worker, cursor=LONG_AGO)

    assert (first.dead, late.dead) == (False, True)
    assert await column(conn, "select (beats, memory)::text from qw.worker") == ["(2,1024)"]
