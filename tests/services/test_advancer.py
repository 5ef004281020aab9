from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from qw.client import Client
from qw.core.errors import QwError, Unavailable
from qw.core.task import Lane
from qw.core.task.payload import Json
from qw.core.workflow import parse_workflow
from qw.engine.advance import advance
from qw.services.upkeep.advancer import Advancer
from qw.store import advances, claims
from qw.store.connection import Connection, ReconnectingConnection, connect_guarded, translated
from tests.given import claimed, column, ended, expect_whole, registered, value

TWO: Json = {"steps": [{"id": "first", "type": "noop"}, {"id": "second", "type": "noop", "needs": ["first"]}]}


class Woken(list[Lane]):
    def __call__(self, lanes: Iterable[Lane]) -> None:
        self.extend(lanes)


@pytest.fixture
async def link(url: str) -> AsyncIterator[ReconnectingConnection]:
    link = ReconnectingConnection(url, name="qw test advancer")
    yield link
    await link.close()


async def run_of_two(url: str) -> None:
    async with Client(url, size=1) as client:
        await client.workflows.save(parse_workflow("two", TWO))
        await client.runs.start("two")


async def finish_what_waits(conn: Connection) -> None:
    held = await claimed(conn, await registered(conn))
    await claims.end(conn, [ended(claim) for claim in held])


async def test_the_end_of_a_step_starts_the_next_and_wakes_its_lane(
    url: str, conn: Connection, link: ReconnectingConnection
) -> None:
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


async def test_a_pass_that_is_cut_off_is_done_again_as_a_whole(
    url: str, conn: Connection, link: ReconnectingConnection
) -> None:
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


async def test_two_advancers_start_a_step_once(url: str, conn: Connection, link: ReconnectingConnection) -> None:
    other = ReconnectingConnection(url, name="qw test advancer 2")
    await run_of_two(url)
    await finish_what_waits(conn)

    await asyncio.gather(Advancer(link, Woken()).step(), Advancer(other, Woken()).step())
    await other.close()

    assert await value(conn, "select count(*) from qw.task") == 2
    await expect_whole(conn)


RAISES = """
    create sequence qw.stored;
    create function qw.refuse() returns trigger language plpgsql as $$ begin
      if nextval('qw.stored') = 1 then
        raise exception 'one value of the batch is refused' using errcode = '22023';
      end if;
      raise exception 'not now' using errcode = '{}';
    end $$;
    create trigger refuse before insert on qw.run_step for each row execute function qw.refuse()"""


@pytest.mark.parametrize("state", ["40P01", "55P03", "40001", "57014", "53100", "53200", "53300", "42501", "0A000"])
async def test_an_error_that_no_run_caused_fails_no_run(own_url: str, state: str) -> None:
    link = ReconnectingConnection(own_url, name="qw test advancer")
    async with await connect_guarded(own_url, name="qw test") as conn:
        await run_of_two(own_url)
        await finish_what_waits(conn)
        await conn.execute(RAISES.format(state).encode())
        advancer = Advancer(link, Woken())

        with pytest.raises(QwError, match="not now"):
            await advancer.step()
        assert await column(conn, "select status from qw.run") == ["running"]
        await conn.execute("drop trigger refuse on qw.run_step")
        await advancer.step()

        assert await column(conn, "select step from qw.run_step order by step") == ["first", "second"]
        await link.close()


async def test_a_second_advancer_takes_what_the_first_has_no_hands_for(
    url: str, conn: Connection, link: ReconnectingConnection
) -> None:
    for _ in range(3):
        await run_of_two(url)
    await finish_what_waits(conn)

    async with await connect_guarded(url, name="qw test, the first") as first, first.transaction():
        held = await advances.claim(first, limit=2)
        with translated():
            await advance(conn, limit=2)

        moved = await column(conn, "select run_id from qw.run_step where step = 'second'")
    assert len(held) == 2
    assert len(moved) == 1
    assert moved[0] not in held


async def test_a_timer_counts_when_its_time_has_come_and_not_before(
    url: str, conn: Connection, link: ReconnectingConnection
) -> None:
    await run_of_two(url)
    await Advancer(link, Woken()).step()
    [run] = await column(conn, "select id from qw.run")
    await conn.execute("insert into qw.advance (run_id, at) values (%s, now() + interval '1 hour')", [run])

    async with conn.transaction():
        assert await advances.claim(conn, limit=2) == []
    await conn.execute("update qw.advance set at = now() - interval '1 second'")
    async with conn.transaction():
        assert await advances.claim(conn, limit=2) == [run]
