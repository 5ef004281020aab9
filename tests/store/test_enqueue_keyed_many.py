"""Many tasks with keys in one statement: the same answers as one by one."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from qw.core.errors import Conflict
from qw.core.task import NewTask
from qw.store import tasks
from qw.store.connection import Connection, translated
from tests.given import column, enqueued, expect_whole, finished, new_task, value


async def test_tasks_with_free_keys_are_stored_in_their_order(conn: Connection) -> None:
    new = [new_task(unique_key=f"u{n}", idempotency_key=f"i{n}" if n % 2 else None) for n in range(20)]

    assert await tasks.enqueue_keyed_many(conn, new) == 20

    assert await column(conn, "select task_id from qw.ready order by seq") == [task.id for task in new]
    assert await value(conn, "select count(*) from qw.unique_key") == 20
    assert await value(conn, "select count(*) from qw.idempotency") == 10
    await expect_whole(conn)


async def test_a_key_that_is_taken_before_or_within_the_batch_skips_the_task(conn: Connection) -> None:
    [held] = await enqueued(conn, new_task(unique_key="held"))
    first, second, other = new_task(unique_key="a"), new_task(unique_key="a"), new_task(unique_key="held")

    assert await tasks.enqueue_keyed_many(conn, [first, second, other]) == 1

    assert set(await column(conn, "select id from qw.task")) == {held, first.id}
    await expect_whole(conn)


async def test_an_idempotency_key_stands_for_the_same_task_only(conn: Connection) -> None:
    done = new_task(idempotency_key="k", payload={"n": 1})
    await finished(conn, None, done)

    assert await tasks.enqueue_keyed_many(conn, [new_task(idempotency_key="k", payload={"n": 1})]) == 0
    with pytest.raises(Conflict, match="idempotency key k was already used"), translated():
        await tasks.enqueue_keyed_many(
            conn, [new_task(unique_key="fine"), new_task(idempotency_key="k", payload={"n": 2})]
        )

    assert await column(conn, "select id from qw.task") == [done.id]
    assert await column(conn, "select key from qw.unique_key") == []


async def test_a_task_skipped_for_its_unique_key_leaves_its_idempotency_key_to_the_holder(conn: Connection) -> None:
    [holder] = await enqueued(conn, new_task(unique_key="u"))

    assert await tasks.enqueue_keyed_many(conn, [new_task(unique_key="u", idempotency_key="i")]) == 0

    assert await column(conn, "select task_id from qw.idempotency") == [holder]


async def test_the_same_id_twice_in_a_batch_is_one_task(conn: Connection) -> None:
    task = new_task(unique_key="u")

    assert await tasks.enqueue_keyed_many(conn, [task, task]) == 1
    await expect_whole(conn)


async def test_the_same_batch_again_stores_nothing(conn: Connection) -> None:
    new = [new_task(unique_key="u"), new_task(idempotency_key="i"), new_task(unique_key="v", idempotency_key="j")]
    await tasks.enqueue_keyed_many(conn, new)

    assert await tasks.enqueue_keyed_many(conn, new) == 0
    assert set(await column(conn, "select id from qw.task")) == {task.id for task in new}
    assert all(isinstance(id, UUID) for id in await column(conn, "select task_id from qw.unique_key"))


async def test_many_tasks_with_keys_are_copied_with_the_same_answers(conn: Connection) -> None:
    [held] = await enqueued(conn, new_task(unique_key="u3"))
    new = [new_task(unique_key=f"u{n}", idempotency_key=f"i{n}" if n % 2 else None) for n in range(100)]
    twice = [new_task(unique_key=f"u{n}") for n in range(50, 100)]

    assert await tasks.enqueue_keyed_many(conn, [*new, *twice]) == 99

    stored = [task.id for task in new if task.unique_key != "u3"]
    assert await column(conn, "select task_id from qw.ready order by seq") == [held, *stored]
    assert await column(conn, "select distinct unique_key from qw.task") != [None]
    assert await value(conn, "select count(*) from qw.task t join qw.unique_key k on k.task_id = t.id "
                             "where k.key = t.unique_key") == 100  # fmt: skip
    assert await value(conn, "select task_id from qw.idempotency where key = 'i3'") == held
    assert await value(conn, "select count(*) from qw.idempotency") == 50
    assert await tasks.enqueue_keyed_many(conn, [*new, *twice]) == 0
    await expect_whole(conn)


async def test_one_id_that_exists_does_not_keep_the_others_out(conn: Connection) -> None:
    known = new_task(idempotency_key="known")
    await enqueued(conn, known)
    new = [new_task(unique_key=f"u{n}") for n in range(60)]

    assert await tasks.enqueue_keyed_many(conn, [*new, known]) == 60

    assert await value(conn, "select count(*) from qw.unique_key") == 60
    await expect_whole(conn)


async def test_callers_that_take_each_others_keys_never_deadlock(conn: Connection, other: Connection) -> None:
    def batch(keys: list[int]) -> list[NewTask]:
        return [new_task(unique_key=f"u{n}", idempotency_key=f"i{n}") for n in keys]

    stored = 0
    for _ in range(5):
        await conn.execute("delete from qw.unique_key; delete from qw.idempotency")
        one, two = batch(list(range(200))), batch(list(reversed(range(100, 300))))
        counts = await asyncio.gather(tasks.enqueue_keyed_many(conn, one), tasks.enqueue_keyed_many(other, two))
        stored += sum(counts)

    assert stored == 5 * 300
    await expect_whole(conn)
