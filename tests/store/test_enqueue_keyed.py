from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from qw.client import Client, Enqueued
from qw.core.errors import Conflict
from qw.store import claims, tasks
from qw.store.connection import Connection, translated
from tests.given import (
    claimed,
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


async def keyed(conn: Connection, on_conflict: str = "error", **fields: Any) -> Any:
    task = new_task(**fields)
    with translated():
        return await tasks.enqueue_keyed(conn, task, on_conflict)


async def test_the_same_idempotency_key_returns_the_same_task(conn: Connection) -> None:
    first = await keyed(conn, idempotency_key="k", payload={"a": 1, "b": 2})

    assert await keyed(conn, idempotency_key="k", payload={"b": 2, "a": 1}) == first
    assert await value(conn, "select count(*) from qw.task") == 1
    await expect_whole(conn)


@pytest.mark.parametrize("other", [{"payload": {"a": 2}}, {"type": "command"}])
async def test_an_idempotency_key_with_another_task_behind_it_is_a_conflict(
    conn: Connection, other: dict[str, Any]
) -> None:
    first = await keyed(conn, idempotency_key="k", payload={"a": 1})

    with pytest.raises(Conflict, match="another type or payload") as caught:
        await keyed(conn, **{"idempotency_key": "k", "payload": {"a": 1}, **other})

    assert caught.value.holder == first


async def test_an_idempotency_key_outlives_its_task(conn: Connection) -> None:
    task = new_task(idempotency_key="k")
    await finished(conn, None, task)

    assert await keyed(conn, idempotency_key="k") == task.id
    assert await tasks.prune(conn, [task.id]) == 1
    assert await keyed(conn, idempotency_key="k") == task.id
    assert await tasks.prune_keys(conn, age=timedelta(0), limit=10) == 1
    assert await keyed(conn, idempotency_key="k") != task.id


async def test_a_hundred_callers_with_one_key_make_one_task(url: str, conn: Connection) -> None:
    async with Client(url, size=10) as client:
        answers: list[Enqueued] = await asyncio.gather(
            *(client.enqueue("noop", {"a": 1}, idempotency_key="k") for _ in range(100))
        )

    assert len({answer.id for answer in answers}) == 1
    assert sum(answer.is_new for answer in answers) == 1
    await expect_whole(conn)


async def test_a_hundred_callers_with_one_unique_key_make_one_task(url: str, conn: Connection) -> None:
    async with Client(url, size=10) as client:
        answers = await asyncio.gather(
            *(client.enqueue("noop", unique_key="k", on_conflict="skip") for _ in range(100))
        )

    assert len({answer.id for answer in answers}) == 1
    await expect_whole(conn)


async def test_a_unique_key_is_held_until_its_task_is_final(conn: Connection) -> None:
    first = await keyed(conn, unique_key="k")

    with pytest.raises(Conflict, match="is held by task") as caught:
        await keyed(conn, unique_key="k")
    assert caught.value.holder == first
    worker = await registered(conn)
    [claim] = await claimed(conn, worker)
    assert await keyed(conn, "skip", unique_key="k") == first
    await claims.end(conn, [ended(claim)])

    assert await keyed(conn, unique_key="k") != first
    await expect_whole(conn)


async def test_a_unique_key_that_is_skipped_answers_for_the_idempotency_key_too(conn: Connection) -> None:
    holder = await keyed(conn, unique_key="k")

    assert await keyed(conn, "skip", unique_key="k", idempotency_key="i") == holder
    assert await keyed(conn, idempotency_key="i") == holder


async def test_a_conflict_of_the_unique_key_leaves_no_idempotency_key(conn: Connection) -> None:
    await keyed(conn, unique_key="k")
    with pytest.raises(Conflict):
        await keyed(conn, unique_key="k", idempotency_key="i")

    assert await value(conn, "select count(*) from qw.idempotency") == 0


async def test_the_same_id_with_its_keys_again_is_the_same_task(conn: Connection) -> None:
    task = new_task(unique_key="k", idempotency_key="i")
    await enqueued(conn, task)

    assert await tasks.enqueue_keyed(conn, task, "error") == task.id
    await expect_whole(conn)


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_waiting_holder_can_be_replaced(url: str, conn: Connection, in_transaction: bool) -> None:
    holder = await keyed(conn, unique_key="k")

    async with Client(url, size=1) as client:
        if in_transaction:
            async with conn.transaction():
                new = await client.enqueue("noop", unique_key="k", on_conflict="replace", conn=conn)
        else:
            new = await client.enqueue("noop", unique_key="k", on_conflict="replace")

    assert new.is_new
    assert await status(conn, holder) == "cancelled"
    assert await homes(conn, new.id) == ["ready"]
    assert f"replaced by {new.id}" == await value(conn, "select error from qw.finished")
    await expect_whole(conn)


async def test_a_running_holder_cannot_be_replaced(url: str, conn: Connection) -> None:
    [claim] = await running(conn, new_task(unique_key="k"))

    async with Client(url, size=1) as client:
        with pytest.raises(Conflict):
            await client.enqueue("noop", unique_key="k", on_conflict="replace")

    assert await status(conn, claim.id) == "processing"
    await expect_whole(conn)


async def test_a_key_whose_first_enqueue_is_rolled_back_is_free(conn: Connection, other: Connection) -> None:
    async with other.transaction(force_rollback=True):
        await tasks.enqueue_keyed(other, new_task(unique_key="k", idempotency_key="i"), "error")
        second = asyncio.create_task(keyed(conn, unique_key="k", idempotency_key="i"))
        await until_somebody_waits(other)

    assert await homes(conn, await second) == ["ready"]
    await expect_whole(conn)
