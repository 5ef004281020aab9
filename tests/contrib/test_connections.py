"""Enqueueing over what other libraries have: in their transactions, with qw's errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import qw
from qw import Backoff, Client, Conflict, Invalid, new_id
from qw.testing import assert_enqueued

pytestmark = pytest.mark.usefixtures("unchecked")

Open: TypeAlias = Callable[[str], AbstractAsyncContextManager[tuple[Any, Callable[[], Any], Callable[[], Any]]]]


@asynccontextmanager
async def of_asyncpg(url: str) -> AsyncIterator[Any]:
    conn = await asyncpg.connect(url)
    await conn.execute("begin")
    try:
        yield conn, lambda: conn.execute("commit; begin"), lambda: conn.execute("rollback; begin")
    finally:
        await conn.close()


def of_sqlalchemy(driver: str, *, session: bool) -> Open:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Any]:
        engine = create_async_engine(url.replace("postgresql://", f"postgresql+{driver}://"))
        async with AsyncSession(engine) if session else engine.connect() as conn:
            yield conn, conn.commit, conn.rollback
        await engine.dispose()

    return opened


ASYNC = [
    pytest.param(of_asyncpg, id="asyncpg"),
    pytest.param(of_sqlalchemy("psycopg", session=True), id="session-psycopg"),
    pytest.param(of_sqlalchemy("asyncpg", session=True), id="session-asyncpg"),
    pytest.param(of_sqlalchemy("psycopg", session=False), id="connection-psycopg"),
    pytest.param(of_sqlalchemy("asyncpg", session=False), id="connection-asyncpg"),
]


@pytest.mark.parametrize("opened", ASYNC)
async def test_a_task_is_part_of_the_transaction(opened: Open, url: str) -> None:
    async with Client(url) as client:
        async with opened(url) as (conn, _, rollback):
            await client.enqueue("mail", {"to": "Ada"}, conn=conn)
            await rollback()
        assert_enqueued(url, count=0)
        async with opened(url) as (conn, commit, _):
            made = await client.enqueue("mail", {"to": "Ada:é"}, conn=conn)
            assert_enqueued(url, count=0)
            await commit()

        assert made.is_new
        assert (await client.tasks.get(made.id)).payload == {"to": "Ada:é"}


@pytest.mark.parametrize("opened", ASYNC)
async def test_all_options_of_a_task_arrive(opened: Open, url: str) -> None:
    at = datetime(2040, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)
    options: dict[str, Any] = {
        "queue": "post", "priority": 2, "run_at": at, "max_retries": 7, "timeout": timedelta(seconds=1.5),
        "unique_key": "u", "idempotency_key": "i", "headers": {"a": "b"},
        "backoff": Backoff(delay=timedelta(seconds=3)),
    }  # fmt: skip
    async with Client(url) as client, opened(url) as (conn, commit, _):
        over = await client.enqueue("mail", {"n": 1}, **options, conn=conn)
        await commit()
        found = await client.tasks.get(over.id)
        later = await client.enqueue("mail", delay=timedelta(hours=1), conn=conn)
        await commit()

        assert (found.queue, found.priority, found.run_at, found.max_retries) == ("post", 2, at, 7)
        assert (found.timeout, found.unique_key, found.headers) == (timedelta(seconds=1.5), "u", {"a": "b"})
        assert (await client.tasks.get(later.id)).run_at is not None


@pytest.mark.parametrize("opened", ASYNC)
async def test_errors_are_those_of_qw(opened: Open, url: str) -> None:
    async with Client(url) as client:
        first = await client.enqueue("mail", unique_key="one")
        async with opened(url) as (conn, commit, rollback):
            skipped = await client.enqueue("mail", unique_key="one", on_conflict="skip", conn=conn)
            await commit()
            with pytest.raises(Conflict, match="one"):
                await client.enqueue("mail", unique_key="one", conn=conn)
            await rollback()
            with pytest.raises(Invalid, match="'replace' needs a psycopg connection"):
                await client.enqueue("mail", unique_key="one", on_conflict="replace", conn=conn)

    assert (skipped.id, skipped.is_new) == (first.id, False)


async def test_the_same_id_twice_is_not_new(url: str) -> None:
    id = new_id()
    async with Client(url) as client, of_asyncpg(url) as (conn, commit, _):
        first = await client.enqueue("mail", id=id, conn=conn)
        again = await client.enqueue("mail", id=id, conn=conn)
        await commit()

    assert (first.is_new, again.is_new) == (True, False)


@pytest.mark.parametrize("kind", ["session", "connection"])
def test_sync_sqlalchemy_goes_with_the_function(kind: str, url: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def opened() -> Any:
        return Session(engine) if kind == "session" else engine.connect()

    with opened() as conn:
        qw.enqueue(conn, "mail", {"n": 1})
        conn.rollback()
    with opened() as conn:
        qw.enqueue(conn, "mail", {"n": 2})
        conn.commit()
    engine.dispose()

    (found,) = assert_enqueued(url)
    assert found.payload == {"n": 2}


async def test_what_is_no_connection_is_refused_with_the_right_way(url: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    async with Client(url) as client:
        with Session(engine) as session, pytest.raises(Invalid, match=r"Session is not async; .* use qw\.enqueue"):
            await client.enqueue("mail", conn=session)
        with pytest.raises(Invalid, match="a str is not an async connection"):
            await client.enqueue("mail", conn=url)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="is not a DB-API connection"):
        qw.enqueue(url, "mail")  # type: ignore[arg-type]
    engine.dispose()
    assert_enqueued(url, count=0)
