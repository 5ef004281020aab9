from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from qw.core.task import Lane
from qw.store import claims, tasks
from qw.store.claims import Share
from qw.store.connection import Connection, connect_guarded
from tests.given import claimed, enqueued, expect_whole, homes, new_task, registered, running, value

DEFAULT = Lane("default", 5)


async def test_a_claim_carries_all_that_a_worker_needs(conn: Connection) -> None:
    task = new_task("send_email", payload={"a": 1}, queue="mail", priority=2, max_retries=4, unique_key="k",
                    timeout=timedelta(seconds=3), headers={"x": "y"})  # fmt: skip
    await enqueued(conn, task)

    [claim] = await claimed(conn, await registered(conn))

    assert (claim.id, claim.type, claim.payload, claim.headers) == (task.id, "send_email", {"a": 1}, {"x": "y"})
    assert (claim.queue, claim.priority, claim.unique_key) == ("mail", 2, "k")
    assert (claim.max_retries, claim.timeout) == (4, timedelta(seconds=3))
    assert (claim.attempt, claim.retries, claim.crashes, claim.cancel_asked) == (1, 0, 0, False)
    assert claim.fence == await value(conn, "select fence from qw.running")
    assert await homes(conn, task.id) == ["running"]


async def test_lower_priorities_go_first_then_those_who_came_first(conn: Connection) -> None:
    late, first, second, urgent = [new_task(priority=p) for p in (9, 5, 5, 0)]
    await enqueued(conn, late, first, second, urgent)

    held = await claimed(conn, await registered(conn))

    assert [c.id for c in held] == [urgent.id, first.id, second.id, late.id]


async def test_a_claim_takes_no_more_than_its_room_and_each_lanes_quota(conn: Connection) -> None:
    a, b = ([new_task(queue=q) for _ in range(4)] for q in "ab")
    await enqueued(conn, *a, *b)
    worker = await registered(conn)

    held = await claims.claim(conn, worker, [Share(Lane("b", 5), -1, 2), Share(Lane("a", 5), -1, 4)], room=3)

    assert [c.id for c in held] == [b[0].id, b[1].id, a[0].id]
    await expect_whole(conn)


async def test_a_claim_begins_behind_its_cursor(conn: Connection) -> None:
    ids = await enqueued(conn, *(new_task() for _ in range(3)))
    first_seq = await value(conn, "select min(seq) from qw.ready")

    held = await claims.claim(conn, await registered(conn), [Share(DEFAULT, first_seq, 10)], room=10)

    assert [c.id for c in held] == ids[1:]


async def test_a_claim_is_prepared_once_however_far_its_cursor_is(conn: Connection) -> None:
    worker = await registered(conn)
    for cursor in (-1, 2**15, 2**31, 2**62):
        await claims.claim(conn, worker, [Share(DEFAULT, cursor, 10)], room=10)

    prepared = "select count(*) from pg_prepared_statements where statement like '%insert into qw.running%'"
    assert await value(conn, prepared) == 1


async def test_rows_that_another_claims_are_passed_over(conn: Connection, other: Connection) -> None:
    ids = await enqueued(conn, *(new_task() for _ in range(4)))
    async with other.transaction():
        theirs = await claimed(other, await registered(other), room=2)

        ours = await claimed(conn, await registered(conn))

    assert [c.id for c in theirs] == ids[:2]
    assert [c.id for c in ours] == ids[2:]


async def test_many_claimers_at_once_take_every_task_once(url: str, conn: Connection) -> None:
    ids = await enqueued(conn, *(new_task(priority=n % 3) for n in range(300)))

    async def take() -> list[UUID]:
        async with await connect_guarded(url, name="qw test") as own:
            worker = await registered(own)
            taken: list[UUID] = []
            while held := await claimed(own, worker, room=7):
                taken += [c.id for c in held]
            return taken

    taken = await asyncio.gather(*(take() for _ in range(4)))

    assert sorted(id for some in taken for id in some) == sorted(ids)
    await expect_whole(conn)


async def test_a_paused_queue_gives_nothing(conn: Connection) -> None:
    paused, open_ = new_task(queue="paused"), new_task(queue="open")
    await enqueued(conn, paused, open_)
    await conn.execute("insert into qw.queue (name, paused_at) values ('paused', now())")

    held = await claimed(conn, await registered(conn), lanes=[Lane("paused", 5), Lane("open", 5)])

    assert [c.id for c in held] == [open_.id]
    assert await claims.lanes(conn) == []


async def test_a_dead_worker_gets_nothing(conn: Connection) -> None:
    [id] = await enqueued(conn)
    dead, stopped = await registered(conn), await registered(conn)
    await conn.execute("update qw.worker set dead_at = now() where id = %s", [dead])
    await conn.execute("update qw.worker set stopped_at = now() where id = %s", [stopped])

    assert [await claimed(conn, worker) for worker in (dead, stopped, 999_999)] == [[], [], []]
    assert await homes(conn, id) == ["ready"]


async def test_a_claim_says_that_somebody_asked_to_cancel(conn: Connection) -> None:
    asked, quiet = await enqueued(conn, new_task(), new_task())
    await conn.execute("insert into qw.cancel_request (task_id, running) values (%s, true)", [asked])

    held = await claimed(conn, await registered(conn))

    assert {c.id: c.cancel_asked for c in held} == {asked: True, quiet: False}


async def test_fences_are_never_given_twice(conn: Connection) -> None:
    worker = await registered(conn)
    fences = []
    await enqueued(conn)

    for _ in range(5):
        [claim] = await claimed(conn, worker)
        fences.append(claim.fence)
        await conn.execute("delete from qw.running")
        await conn.execute("insert into qw.ready (task_id, queue, priority) values (%s, 'default', 5)", [claim.id])

    assert len(set(fences)) == 5


async def test_some_types_and_suspects_can_be_left_out(conn: Connection) -> None:
    plain, command, suspect = await enqueued(conn, new_task(), new_task("command"), new_task())
    await conn.execute("update qw.ready set crashes = 2 where task_id = %s", [suspect])
    worker, share = await registered(conn), [Share(DEFAULT, -1, 10)]

    held = await claims.claim(conn, worker, share, room=10, without=["command"], below_crashes=2)
    assert [c.id for c in held] == [plain]
    held = await claims.claim(conn, worker, share, room=10, without=["command"])
    assert [c.id for c in held] == [suspect]
    held = await claims.claim(conn, worker, share, room=10, below_crashes=2)
    assert [c.id for c in held] == [command]


async def test_lanes_are_those_with_something_in_them(conn: Connection) -> None:
    await enqueued(conn, *(new_task(queue=q, priority=p) for q in "ab" for p in (1, 5, 5)))
    await enqueued(conn, new_task(queue="later", delay=timedelta(hours=1)))

    assert sorted(await claims.lanes(conn)) == [Lane("a", 1), Lane("a", 5), Lane("b", 1), Lane("b", 5)]


async def test_a_claim_stays_quick_while_a_snapshot_is_held(conn: Connection, other: Connection) -> None:
    """With the cursor it does not walk the rows that no vacuum may remove."""
    await tasks.enqueue_many(conn, [new_task() for _ in range(3000)])
    await other.execute("begin isolation level repeatable read")
    await other.execute("select 1")
    worker = await registered(conn)
    held = await claims.claim(conn, worker, [Share(DEFAULT, -1, 2500)], room=2500)

    plan = await value(
        conn, "explain (analyze, buffers, format json) select ctid from qw.ready where queue = 'default'"
        " and priority = 5 and seq > %s order by seq limit 10", held[-1].seq)  # fmt: skip
    await other.execute("rollback")

    assert len(held) == 2500
    assert plan[0]["Plan"]["Shared Hit Blocks"] < 30
    assert "Index" in plan[0]["Plan"]["Plans"][0]["Node Type"]


async def test_a_claim_of_running_tasks_does_not_exist(conn: Connection) -> None:
    await running(conn)

    assert await claimed(conn, await registered(conn), lanes=[DEFAULT]) == []
