from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.errors import Conflict, Invalid, QwError
from qw.core.ids import uuid7
from qw.core.task import Backoff
from qw.store import tasks, workers
from qw.store.connection import Connection, connect_guarded, translated
from qw.store.ids import new_id
from tests.given import claimed, column, enqueued, expect_whole, finished, homes, new_task, registered, status, value

HOUR = timedelta(hours=1)


async def test_a_task_is_stored_as_it_was_asked_for(conn: Connection) -> None:
    parent, run = new_id(), new_id()
    backoff = Backoff(delay=timedelta(seconds=2), factor=3, max_delay=HOUR, retry_on=("A",), give_up_on=("B",))
    task = new_task(
        "send_email", payload={"customerId": "zoë", "n": 2**63}, queue="mail", priority=1, max_retries=7,
        timeout=timedelta(seconds=9), backoff=backoff, headers={"traceparent": "00-ab"}, parent_id=parent, run_id=run,
        step="first",
    )  # fmt: skip

    new = await tasks.enqueue(conn, [task])

    assert new == {task.id}
    [stored] = await tasks.get(conn, [task.id])
    assert (stored.type, stored.queue, stored.priority, stored.status) == ("send_email", "mail", 1, "pending")
    assert (stored.payload, stored.headers) == ({"customerId": "zoë", "n": 2**63}, {"traceparent": "00-ab"})
    assert (stored.max_retries, stored.timeout) == (7, timedelta(seconds=9))
    assert (stored.parent_id, stored.run_id, stored.step) == (parent, run, "first")
    assert Backoff.of(await value(conn, "select backoff from qw.task")) == backoff
    await expect_whole(conn)


async def test_what_a_task_leaves_open_is_its_types_to_say(conn: Connection) -> None:
    await conn.execute("update qw.type set max_retries = 9, timeout = '7s' where name = 'noop'")
    known, unknown = await enqueued(conn, new_task(), new_task("never_heard_of"))

    first, second = await tasks.get(conn, [known, unknown])

    assert (first.max_retries, first.timeout) == (9, timedelta(seconds=7))
    assert (second.max_retries, second.timeout) == (3, timedelta(minutes=5))


async def test_a_command_has_no_time_out_unless_one_is_asked_for(conn: Connection) -> None:
    free, limited = await enqueued(conn, new_task("command"), new_task("command", timeout=timedelta(hours=1)))

    assert [task.timeout for task in await tasks.get(conn, [free])] == [None]
    assert [task.timeout for task in await tasks.get(conn, [limited])] == [timedelta(hours=1)]


@pytest.mark.parametrize("many", [1, 3, 60], ids=["one", "statement", "copy"])
async def test_the_same_id_again_makes_no_second_task(conn: Connection, many: int) -> None:
    given = [new_task(payload={"n": n}) for n in range(many)]
    assert await tasks.enqueue_many(conn, given) == {task.id for task in given}

    again = await tasks.enqueue_many(conn, [replace(task, priority=0, delay=HOUR) for task in given])

    assert again == set()
    assert await value(conn, "select count(*) from qw.ready where priority = 5") == many
    await expect_whole(conn)


@pytest.mark.parametrize("many", [1, 3, 60], ids=["one", "statement", "copy"])
@pytest.mark.parametrize("other", [{"type": "http_request"}, {"queue": "q"}, {"payload": {"first": False}}], ids=str)
async def test_an_id_belongs_to_one_type_queue_and_payload(conn: Connection, many: int, other: dict[str, Any]) -> None:
    [id] = await enqueued(conn, new_task(payload={"first": True}))
    beside = [new_task() for _ in range(many - 1)]

    with pytest.raises(Conflict, match=f"task {id} exists with another .* noop in queue default") as caught:
        await tasks.enqueue_many(conn, [*beside, replace(new_task(id=id, payload={"first": True}), **other)])

    assert caught.value.holder == id
    assert (await tasks.get(conn, [id]))[0].payload == {"first": True}
    await expect_whole(conn)


async def test_an_id_with_a_key_belongs_to_one_type_queue_and_payload(conn: Connection) -> None:
    [id] = await enqueued(conn)

    assert await tasks.enqueue_keyed(conn, new_task(id=id, unique_key="k"), "error") == id
    with pytest.raises(Conflict, match="another type, queue or payload"), translated():
        await tasks.enqueue_keyed(conn, new_task("http_request", id=id, unique_key="k"), "error")


@pytest.mark.parametrize("many", [0, 60], ids=["statement", "copy"])
async def test_the_same_id_twice_in_one_call_makes_one_task(conn: Connection, many: int) -> None:
    task = new_task(payload={"first": True})
    beside = [new_task() for _ in range(many)]

    assert await tasks.enqueue_many(conn, [task, *beside, task]) == {task.id, *(one.id for one in beside)}
    with pytest.raises(Conflict, match=f"task {task.id} exists with another"):
        await tasks.enqueue_many(conn, [*(new_task() for _ in beside), task, new_task(id=task.id)])

    assert (await tasks.get(conn, [task.id]))[0].payload == {"first": True}
    await expect_whole(conn)


async def test_the_id_of_a_finished_task_makes_no_second_one(conn: Connection) -> None:
    [id] = await finished(conn)

    assert await tasks.enqueue(conn, [new_task(id=id)]) == set()
    assert await homes(conn, id) == ["finished"]


@pytest.mark.parametrize("many", [1, 60], ids=["one", "copy"])
async def test_an_id_from_the_future_is_refused(conn: Connection, many: int) -> None:
    millis = int(time.time() * 1000)
    soon, too_late = uuid7(millis + 240_000, bytes(10)), uuid7(millis + 400_000, bytes(10))
    beside = [new_task() for _ in range(many - 1)]

    assert await tasks.enqueue(conn, [new_task(id=soon)]) == {soon}
    with pytest.raises(Invalid, match=rf"id: {too_late} is .* more than 5 minutes ahead of"):
        await tasks.enqueue_many(conn, [*beside, new_task(id=too_late)])
    with pytest.raises(Invalid, match="more than 5 minutes ahead of"):
        await tasks.enqueue_keyed(conn, new_task(id=too_late, unique_key="k"), "error")


async def test_a_transaction_that_began_long_ago_can_enqueue(conn: Connection) -> None:
    async with conn.transaction():
        await conn.execute("select pg_sleep(0.3)")
        [delayed] = await enqueued(conn, new_task(delay=timedelta(seconds=0.25)))
        keyed = await tasks.enqueue_keyed(conn, new_task(unique_key="k", delay=timedelta(seconds=0.25)), "error")
        many = [new_task(delay=timedelta(seconds=0.25)) for _ in range(60)]
        await tasks.enqueue_many(conn, many)
        sql = await value(conn, "select qw.enqueue('noop', delay => interval '250 ms')")

        for id in (delayed, keyed, many[0].id, sql):
            assert await homes(conn, id) == ["scheduled"]  # from the call on, not from the transaction's beginning
        lag = "select min(created_at) - now() from qw.task"
        assert await value(conn, lag) >= timedelta(seconds=0.3)


async def test_an_id_of_another_kind_is_taken_as_it_is(conn: Connection) -> None:
    id = UUID("ffffffff-ffff-4fff-bfff-ffffffffffff")

    assert await tasks.enqueue(conn, [new_task(id=id)]) == {id}


@pytest.mark.parametrize("many", [False, True], ids=["statement", "copy"])
async def test_what_is_due_is_ready_and_what_is_not_is_scheduled(conn: Connection, many: bool) -> None:
    now = datetime.now(UTC)
    past, later, delayed, undelayed = (
        new_task(run_at=now - HOUR),
        new_task(run_at=now + HOUR),
        new_task(delay=HOUR),
        new_task(delay=timedelta(0)),
    )
    given = [past, later, delayed, undelayed, *(new_task() for _ in range(60 if many else 0))]

    new = await (tasks.enqueue_many if many else tasks.enqueue)(conn, given)

    assert new == {task.id for task in given}
    assert [await homes(conn, task.id) for task in given[:4]] == [["ready"], ["scheduled"], ["scheduled"], ["ready"]]
    assert (await tasks.get(conn, [later.id]))[0].run_at == later.run_at
    assert await column(conn, "select distinct reason from qw.scheduled") == ["time"]
    await expect_whole(conn)


@pytest.mark.parametrize("many", [False, True], ids=["statement", "copy"])
async def test_tasks_run_in_the_order_given(conn: Connection, many: bool) -> None:
    given = [new_task(priority=5) for _ in range(60)]
    given = given[::2] + given[1::2]

    await (tasks.enqueue_many if many else tasks.enqueue)(conn, given)

    assert [c.id for c in await claimed(conn, await registered(conn))] == [task.id for task in given]


async def test_many_tasks_keep_all_they_were_asked_for(conn: Connection) -> None:
    parent = new_id()
    given = [
        new_task("send_email", payload={"n": n}, queue="mail", priority=2, max_retries=4, timeout=HOUR,
                 backoff=Backoff(factor=4), headers={"a": "b"}, parent_id=parent) for n in range(60)
    ]  # fmt: skip

    await tasks.enqueue_many(conn, given)

    stored = await tasks.get(conn, [task.id for task in given])
    assert [task.payload["n"] for task in stored] == list(range(60))
    assert {(t.type, t.queue, t.priority, t.max_retries, t.timeout, t.parent_id) for t in stored} == {
        ("send_email", "mail", 2, 4, HOUR, parent)
    }
    assert stored[0].headers == {"a": "b"}
    assert Backoff.of(await value(conn, "select backoff from qw.task limit 1")) == Backoff(factor=4)


async def test_many_tasks_of_which_some_are_known_are_stored_all_the_same(conn: Connection) -> None:
    given = [new_task() for _ in range(60)]
    await tasks.enqueue(conn, given[:10])

    new = await tasks.enqueue_many(conn, [*given, given[30]])

    assert new == {task.id for task in given[10:]}
    assert await tasks.enqueue_many(conn, given) == set()
    await expect_whole(conn)


async def test_a_wrong_task_among_many_leaves_none(conn: Connection) -> None:
    given = [*(new_task() for _ in range(60)), new_task(queue="no spaces")]

    with pytest.raises(QwError), translated():
        await tasks.enqueue_many(conn, given)

    assert await value(conn, "select count(*) from qw.task") == 0
    await expect_whole(conn)


@pytest.mark.parametrize("many", [1, 60])
async def test_only_who_waits_for_a_queue_is_notified(conn: Connection, other: Connection, many: int) -> None:
    await workers.wait(conn, await registered(conn), ["mine"])
    await other.execute("listen qw_ready")

    await tasks.enqueue_many(conn, [new_task(queue="yours") for _ in range(many)])
    await tasks.enqueue_many(conn, [new_task(queue="mine", priority=3) for _ in range(many)])

    [heard] = [n async for n in other.notifies(timeout=5, stop_after=1)]
    assert heard.payload == "mine 3"


async def test_who_waits_for_any_queue_is_notified_of_all(conn: Connection, other: Connection) -> None:
    worker = await registered(conn)
    await workers.wait(conn, worker, [])
    await other.execute("listen qw_ready")

    await tasks.enqueue_keyed(conn, new_task(queue="a", unique_key="k"), "error")
    await tasks.enqueue(conn, [new_task(queue="b")])
    await workers.wake(conn, worker)
    await tasks.enqueue(conn, [new_task(queue="c")])
    await conn.execute("notify qw_ready, 'end'")

    assert [n.payload async for n in other.notifies(timeout=5, stop_after=3)] == ["a 5", "b 5", "end"]


async def test_concurrent_enqueues_of_one_id_make_one_task(url: str, conn: Connection) -> None:
    task = new_task()
    others = [await connect_guarded(url, name="qw test") for _ in range(8)]

    new = await asyncio.gather(*(tasks.enqueue(one, [task]) for one in others))

    for one in others:
        await one.close()
    assert sorted(map(len, new)) == [0] * 7 + [1]
    assert await status(conn, task.id) == "pending"
    await expect_whole(conn)
