"""`concurrency:` — how many runs with the same key go on at a time, on a real database."""

from __future__ import annotations

import asyncio
from typing import Any

from qw.store import runs
from qw.store.connection import Connection, connect
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import column, value

INPUT: Any = {"who": {"type": "string", "default": "me"}}


def limited(limit: int = 1, on_limit: str = "queue") -> Any:
    return {"key": "${{ input.who }}", "limit": limit, "on_limit": on_limit}


async def test_runs_of_one_key_queue_and_start_in_order(conn: Connection) -> None:
    await kept(conn, step("a"), concurrency=limited(2), input=INPUT)
    ids = [await begun(conn) for _ in range(5)]
    driver = Driver(conn=conn)
    await driver.advance()

    seen = []
    while await driver.work():
        seen.append(
            [await value(conn, "select count(*) from qw.run where status = %s", s) for s in ("pending", "running")]
        )
        await driver.advance()

    assert seen == [[3, 2], [1, 2], [0, 1]]
    assert await column(conn, "select status from qw.run") == ["completed"] * 5
    ends = await column(conn, "select id from qw.run order by finished_at, id")
    assert ends == ids
    assert await inbox(conn) == 0


async def test_other_keys_and_other_workflows_do_not_wait(conn: Connection) -> None:
    await kept(conn, step("a"), concurrency=limited(), input=INPUT)
    await kept(conn, step("a"), concurrency=limited(), input=INPUT, name="other")

    ids = [await begun(conn), await begun(conn, given={"who": "you"}), await begun(conn, "other"), await begun(conn)]

    assert [(await Driver(conn=conn).run(id)).status for id in ids] == ["running", "running", "running", "pending"]


async def test_a_run_too_many_is_skipped(conn: Connection) -> None:
    await kept(conn, step("a"), concurrency=limited(on_limit="skip"), input=INPUT)
    first, second = await begun(conn), await begun(conn)
    driver = Driver(conn=conn)

    run = await driver.run(second)
    assert (run.status, run.detail) == ("cancelled", "skipped")
    assert (await driver.finish(first)).status == "completed"
    assert (await driver.finish(await begun(conn))).status == "completed"


async def test_a_newer_run_takes_the_place_of_the_older(conn: Connection) -> None:
    await kept(conn, step("a"), concurrency=limited(on_limit="cancel_running"), input=INPUT)
    first, second, third = await begun(conn), await begun(conn), await begun(conn)
    driver = Driver(conn=conn)

    run = await driver.finish(third)

    assert run.status == "completed"
    assert [(await driver.run(id)).status for id in (first, second)] == ["cancelled", "cancelled"]
    assert await inbox(conn) == 0


async def test_a_queued_run_can_be_cancelled_and_holds_nobody_up(conn: Connection) -> None:
    await kept(conn, step("a"), concurrency=limited(), input=INPUT)
    first, second, third = await begun(conn), await begun(conn), await begun(conn)
    driver = Driver(conn=conn)

    await runs.cancel(conn, second)
    await driver.finish(first)
    await driver.settle()

    assert [(await driver.run(id)).status for id in (first, second, third)] == ["completed", "cancelled", "completed"]


async def test_starts_and_ends_at_the_same_moment_never_exceed_the_limit_nor_forget_a_run(
    conn: Connection, url: str
) -> None:
    await kept(conn, step("a"), concurrency=limited(3), input=INPUT)
    most = 0

    async def start(times: int) -> None:
        async with await connect(url) as own:
            for _ in range(times):
                await begun(own)

    async def work() -> None:
        nonlocal most
        async with await connect(url) as own:
            driver = Driver(conn=own)
            while await value(own, "select count(*) < 40 or bool_or(finished_at is null) from qw.run"):
                await driver.advance()
                most = max(most, await value(own, "select count(*) from qw.run where status = 'running'"))
                await driver.work()

    async with asyncio.timeout(60):
        await asyncio.gather(start(20), start(20), work(), work())

    assert most <= 3
    assert await column(conn, "select distinct status from qw.run") == ["completed"]
