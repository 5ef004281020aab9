"""Tasks that no worker would run are refused before they are stored, by what the workers have registered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import qw
from qw import Client, Handlers, Invalid, Misconfigured, NewTask, new_id
from qw.store import types
from qw.store.connection import Connection
from qw.testing import assert_enqueued

app = Handlers()
newer = Handlers()


@app.handler("resize")
async def resize(path: str, width: int = 100) -> None: ...


@newer.task(name="resize")
async def resize_newer(path: str, width: int = 100, *, height: int = 100) -> None: ...


@newer.task()
async def unheard_of(path: str) -> None: ...


WRONG = "payload.width: must be an integer, not a string"
UNKNOWN = "unknown task type 'resise': no worker has registered a handler for it; did you mean 'resize'? Known are "


async def register(conn: Connection, handlers: Handlers) -> None:
    await types.serve(conn, {one.type: (one.schema, one.policy) for one in handlers})


@pytest.fixture(autouse=True)
async def _registered(conn: Connection) -> None:
    await register(conn, app)


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as opened:
        yield opened


def task(type: str = "resize", **payload: Any) -> NewTask:
    return NewTask(type=type, id=new_id(), payload=payload)


async def test_a_wrong_payload_is_refused_with_the_field(client: Client, url: str) -> None:
    with pytest.raises(Invalid) as wrong:
        await client.enqueue("resize", {"width": "wide", "hight": 3})

    assert [fault.path for fault in wrong.value.faults] == ["payload.path", "payload.width", "payload.hight"]
    assert WRONG in str(wrong.value)
    assert_enqueued(url, count=0)


async def test_an_unknown_type_is_refused_with_a_guess(client: Client, url: str) -> None:
    with pytest.raises(Invalid) as unknown:
        await client.enqueue("resise", {"path": "a.jpg"})

    assert str(unknown.value).startswith(UNKNOWN)
    assert_enqueued(url, count=0)


async def test_of_many_the_wrong_one_is_named(client: Client, url: str) -> None:
    with pytest.raises(Invalid) as wrong:
        await client.enqueue_many([task(path="a.jpg"), task(path="b.jpg", width="wide")])

    assert str(wrong.value) == f"tasks[1].{WRONG}"
    assert_enqueued(url, count=0)


async def test_what_a_worker_registers_is_accepted_at_once(client: Client, conn: Connection) -> None:
    with pytest.raises(Invalid, match=r"payload\.height: is unknown"):
        await client.enqueue("resize", {"path": "a.jpg", "height": 1})

    await register(conn, newer)

    await client.enqueue("resize", {"path": "a.jpg", "height": 1})
    await client.enqueue("unheard_of", {"path": "a.jpg"})


async def test_a_program_may_be_deployed_before_its_first_worker(client: Client, conn: Connection, url: str) -> None:
    await conn.execute("delete from qw.type where schema is not null")

    await client.enqueue("resise", {"path": "a.jpg"})
    await client.enqueue_many([task(path="b.jpg")])
    with psycopg.connect(url) as connection:
        qw.enqueue(connection, "resise")

    assert_enqueued(url, count=3)


async def test_what_was_read_lasts_for_a_while(client: Client, conn: Connection) -> None:
    await client.enqueue("resize", {"path": "a.jpg"})
    await conn.execute("delete from qw.type where name = 'resize'")

    await asyncio.gather(*(client.enqueue("resize", {"path": "b.jpg"}) for _ in range(20)))


async def test_a_function_is_enqueued_before_any_worker_knows_its_version(client: Client, url: str) -> None:
    await resize_newer.enqueue(client, "a.jpg", height=1)
    await client.enqueue_many([unheard_of.new("b.jpg")])
    with psycopg.connect(url) as connection:
        resize_newer.enqueue_sync(connection, "c.jpg", height=1)

    assert_enqueued(url, count=3)


def test_a_synchronous_program_is_told_and_its_transaction_stands(url: str) -> None:
    with psycopg.connect(url) as connection:
        with pytest.raises(Invalid, match=WRONG):
            qw.enqueue(connection, "resize", {"path": "a.jpg", "width": "wide"})
        with pytest.raises(Invalid, match="unknown task type 'resise'"):
            qw.enqueue(connection, "resise")
        qw.enqueue(connection, "resize", {"path": "a.jpg"})

    assert_enqueued(url, count=1)


async def test_over_connections_of_other_libraries_too(client: Client, url: str) -> None:
    theirs = await asyncpg.connect(url)
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    async with AsyncSession(engine) as session, client.connection() as own:
        for conn in (theirs, session, own):
            with pytest.raises(Invalid, match=WRONG):
                await client.enqueue("resize", {"path": "a.jpg", "width": "wide"}, conn=conn)
            await client.enqueue("resize", {"path": "a.jpg"}, conn=conn)
        await session.commit()
    await theirs.close()
    await engine.dispose()

    assert_enqueued(url, count=3)


async def test_a_client_of_one_connection_checks_inside_its_transaction(url: str) -> None:
    async with Client(url, size=1) as client, client.connection() as own, own.transaction():
        await client.enqueue("resize", {"path": "a.jpg"}, conn=own)

    assert_enqueued(url, count=1)


async def test_a_setting_turns_it_off(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Client(url, check_tasks=False) as client:
        await client.enqueue("resise")
    monkeypatch.setenv("QW_CHECK_TASKS", "off")
    async with Client(url) as client:
        await client.enqueue_many([task(width="wide")])
    with psycopg.connect(url) as connection:
        qw.enqueue(connection, "resise")

    assert_enqueued(url, count=3)
    monkeypatch.setenv("QW_CHECK_TASKS", "perhaps")
    with pytest.raises(Misconfigured, match="QW_CHECK_TASKS: 'perhaps' is not true or false"):
        Client(url)


async def test_who_may_only_enqueue_is_told_too(url: str, conn: Connection) -> None:
    await conn.execute("drop role if exists qw_test_type_check")
    await conn.execute("create role qw_test_type_check login")
    try:
        async with Client(url) as owner:
            await owner.rights.grant("qw_test_type_check", "enqueue")
        async with Client(url.replace("//postgres@", "//qw_test_type_check@")) as client:
            with pytest.raises(Invalid, match=WRONG):
                await client.enqueue("resize", {"path": "a.jpg", "width": "wide"})
            await client.enqueue("resize", {"path": "a.jpg"})
    finally:
        await conn.execute("drop owned by qw_test_type_check; drop role qw_test_type_check")
