from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from qw.client import Client
from qw.core.errors import Unavailable
from qw.core.payload import Json
from qw.core.task import Lane
from qw.core.workflow import parse_workflow
from qw.services.advancer import Advancer
from qw.store import claims
from qw.store.connection import Connection, Link
from tests.given import claimed, column, ended, expect_whole, registered, value

TWO: Json = {"steps": [{"id": "first", "type": "noop"}, {"id": "second", "type": "noop", "needs": ["first"]}]}


class Woken(list[Lane]):
    def __call__(self, lanes: Iterable[Lane]) -> None:
        self.extend(lanes)


@pytest.fixture
async def link(url: str) -> AsyncIterator[Link]:
    link = Link(url, name="qw test advancer")
    yield link
    await link.close()


async def run_of_two(url: str) -> None:
    async with Client(url, size=1) as client:
        await client.keep_workflow(parse_workflow("two", TWO))
        await client.start_workflow("two")


async def finish_what_waits(conn: Connection) -> None:
    held = await claimed(conn, await registered(conn))
    await claims.end(conn, [ended(claim) for claim in held])


async def test_the_end_of_a_step_starts_the_next_and_wakes_its_lane(url: str, conn: Connection, link: Link) -> None:
    woken = Woken()
    advancer = Advancer(link, woken)
    await run_of_two(url)
    await finish_what_waits(conn)

    assert await advancer.step()
    assert woken == [Lane("default", 5)]
    await finish_what_waits(conn)
    assert await advancer.step()
    assert not await advancer.step()

    assert await column(conn, "select status from qw.run") == ["completed"]
    assert await column(conn, "select step from qw.run_step order by finished") == ["first", "second"]
    assert await value(conn, "select count(*) from qw.advance") == 0
    await expect_whole(conn)


async def test_fault_66_a_pass_that_is_cut_off_is_done_again_as_a_whole(url: str, conn: Connection, link: Link) -> None:
    await run_of_two(url)
    await finish_what_waits(conn)
    async with link.use():
        pass
    await conn.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                       " where application_name = 'qw test advancer'")  # fmt: skip
    advancer = Advancer(link, Woken())

    with pytest.raises(Unavailable):
        await advancer.step()
    assert await value(conn, "select count(*) from qw.run_step") == 1
    await advancer.step()

    assert await value(conn, "select count(*) from qw.run_step") == 2


async def test_two_advancers_start_a_step_once(url: str, conn: Connection, link: Link) -> None:
    other = Link(url, name="qw test advancer 2")
    await run_of_two(url)
    await finish_what_waits(conn)

    await asyncio.gather(Advancer(link, Woken()).step(), Advancer(other, Woken()).step())
    await other.close()

    assert await value(conn, "select count(*) from qw.task") == 2
    await expect_whole(conn)
