"""Typed tasks on a real database: enqueued by their functions, run, and their results read back as values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from pydantic import BaseModel

from qw import Client, Context, Handlers, Reject, TaskCancelled, TaskFailed
from qw.core.errors import Conflict, Invalid, NotFound, TimedOut
from qw.store.ids import new_id
from tests.services.workshop import Workshop, workshop

app = Handlers()


class Greeting(BaseModel):
    text: str
    at: datetime


@app.task(max_retries=2, queue="mail")
async def greet(context: Context, name: str, at: datetime) -> Greeting:
    return Greeting(text=f"Hello, {name}! ({context.attempt})", at=at)


@app.task()
async def refuse() -> None:
    raise Reject("never")


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, size=2) as opened:
        yield opened


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Workshop]:
    async with workshop(url, app) as made:
        yield made


async def run(shop: Workshop) -> None:
    await shop.claim()
    await shop.settle()


async def test_a_result_comes_back_as_a_value_of_its_type(client: Client, shop: Workshop) -> None:
    task = await greet.enqueue(client, "Ada", at=NOON)
    await run(shop)

    assert await client.result(task.id, type=Greeting) == Greeting(text="Hello, Ada! (1)", at=NOON)
    assert await client.result(task.id, dict[str, str]) == await client.result(task.id)
    assert (await client.tasks.get(task.id)).queue == "mail"
    with pytest.raises(Invalid, match=rf"result of task {task.id} \(greet\): Input should be a valid integer"):
        await client.result(task.id, int)


async def test_a_failed_task_raises_its_error_and_attempts(client: Client, shop: Workshop) -> None:
    task = await refuse.enqueue(client)
    await run(shop)

    with pytest.raises(TaskFailed, match=f"task {task.id} .refuse. failed after 1 attempt: never") as caught:
        await client.result(task.id)
    assert (caught.value.id, caught.value.type) == (task.id, "refuse")
    assert (caught.value.error, caught.value.attempts) == ("never", 1)


async def test_a_cancelled_task_raises_the_reason(client: Client) -> None:
    task = await refuse.enqueue(client)
    await client.tasks.cancel([task.id], reason="not needed")

    with pytest.raises(TaskCancelled, match="was cancelled: not needed") as caught:
        await client.result(task.id)
    assert caught.value.reason == "not needed"


async def test_what_is_not_there_or_not_done_in_time_says_so(client: Client) -> None:
    task = await refuse.enqueue(client)

    with pytest.raises(TimedOut, match=str(task.id)):
        await client.result(task.id, timeout=timedelta(milliseconds=30))
    with pytest.raises(NotFound):
        await client.result(new_id())


async def test_many_are_enqueued_at_once_and_within_a_transaction(client: Client) -> None:
    assert await client.enqueue_many(greet.new(name, NOON) for name in ("Ada", "Bob")) == 2

    new = greet.new("Eve", NOON)
    async with client.connection() as conn, conn.transaction():
        await client.enqueue_task(new, conn=conn)
        raise psycopg.Rollback
    with pytest.raises(NotFound):
        await client.tasks.get(new.id)


async def test_options_are_those_of_the_task_in_the_database(client: Client) -> None:
    own = greet.options(queue="other", priority=1, delay=timedelta(hours=1), unique_key="ada", headers={"a": "b"})
    own = own.options(max_retries=9, timeout=timedelta(seconds=7))
    stored = await client.tasks.get((await own.enqueue(client, "Ada", NOON)).id)

    assert (stored.queue, stored.priority, stored.unique_key, stored.headers) == ("other", 1, "ada", {"a": "b"})
    assert (stored.max_retries, stored.timeout) == (9, timedelta(seconds=7))
    assert stored.run_at is not None
    with pytest.raises(Conflict):
        await own.enqueue(client, "Ada", NOON)
    assert not (await own.options(on_conflict="skip").enqueue(client, "Ada", NOON)).is_new
    assert (await own.options(on_conflict="replace").enqueue(client, "Ada", NOON)).is_new


async def test_a_synchronous_program_enqueues_within_its_transaction(client: Client, url: str) -> None:
    with psycopg.connect(url) as conn:
        lost = greet.enqueue_sync(conn, "Ada", NOON)
        conn.rollback()
        kept: UUID = greet.options(priority=0).enqueue_sync(conn, "Bob", at=NOON)

    stored = await client.tasks.get(kept)
    assert (stored.payload, stored.priority) == ({"name": "Bob", "at": "2026-01-01T12:00:00Z"}, 0)
    with pytest.raises(NotFound):
        await client.tasks.get(lost)
    with psycopg.connect(url) as conn, pytest.raises(Invalid, match="'replace' needs a Client"):
        greet.options(on_conflict="replace").enqueue_sync(conn, "Bob", NOON)
