"""A client as a part of a program: it leaves the program's psycopg alone, and closes what it opened."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from qw.client import Client
from qw.core.errors import Unavailable
from qw.store.connection import Connection
from tests.given import comes_true, new_task, until_somebody_waits, value

PROGRAM = """
import asyncio, sys
import psycopg
from psycopg.types.json import Jsonb
from qw import Client

client = Client(sys.argv[1], size=int(sys.argv[2]))

async def main():
    async with client:
        await client.enqueue("noop")

asyncio.run(main())
asyncio.run(main())
with psycopg.connect(sys.argv[1], autocommit=True) as conn:
    try:
        conn.execute("select %s::jsonb", [Jsonb(float("nan"))])
    except psycopg.errors.InvalidTextRepresentation:
        print("NaN is refused")
    print(type(conn.execute("select '{}'::jsonb").fetchone()[0]).__name__)
"""


@pytest.mark.parametrize("size", [1, 2])
def test_a_program_can_run_twice_with_one_client_and_keeps_its_own_json(url: str, size: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM, url, str(size)], capture_output=True, text=True, timeout=60
    )

    assert (ran.stdout.split("\n"), ran.stderr) == (["NaN is refused", "dict", ""], "")


async def test_closing_waits_for_what_is_being_enqueued(url: str, conn: Connection, other: Connection) -> None:
    client = Client(url, name="closing")
    async with client:
        async with conn.transaction():
            await conn.execute("lock table qw.task")
            waiting = [asyncio.create_task(client.enqueue("noop")) for _ in range(3)]
            await until_somebody_waits(other)
            closing = asyncio.create_task(client.__aexit__(None, None, None))
            await asyncio.sleep(0)
        await closing

    assert [answer.is_new for answer in await asyncio.gather(*waiting)] == [True] * 3
    await comes_true(lambda: _sessions_are_gone(conn))


async def test_closing_ends_an_enqueue_that_cannot_be_stored_with_an_error(
    url: str, conn: Connection, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.client.coalesce.CLOSE_SECONDS", 0.1)
    client = Client(url, name="closing")
    async with conn.transaction():
        await conn.execute("lock table qw.task")
        async with client:
            waiting = asyncio.create_task(client.enqueue_task(new_task()))
            await until_somebody_waits(other)
    with pytest.raises(Unavailable, match="closed before the database answered"):
        await waiting

    await comes_true(lambda: _sessions_are_gone(conn))


@pytest.mark.parametrize("size", [1, 2])
async def test_a_closed_client_says_so_and_opens_nothing(url: str, conn: Connection, size: int) -> None:
    client = Client(url, size=size, name="closing")
    with pytest.raises(Unavailable, match="'closing' is not open"):
        await client.queues.stats()
    async with client:
        await client.enqueue("noop")

    for call in (client.enqueue("noop"), client.enqueue("noop", unique_key="k"), client.queues.stats()):
        with pytest.raises(Unavailable, match="'closing' is not open"):
            await call
    await comes_true(lambda: _sessions_are_gone(conn))


async def _sessions_are_gone(conn: Connection) -> bool:
    query = "select count(*) from pg_stat_activity where application_name = 'closing'"
    return int(await value(conn, query)) == 0
