"""Two daemons at once: fan-in, cancels and completions in every order, a run that spoils nothing for others."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from qw.core.task import Claim
from qw.core.task.payload import Json
from qw.engine.advance import advance
from qw.store import claims, runs, tasks
from qw.store.connection import Connection, connect_guarded, translated
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import claimed, column, ended, expect_whole, registered, value

DIAMOND = (step("left"), step("right"), step("join", "left", "right"))


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_two_needs_that_end_at_the_same_instant_start_their_successor_once(
    conn: Connection, url: str, times: int
) -> None:
    await kept(conn, *DIAMOND)
    worker = await registered(conn)

    async def daemon(own: Connection, claim: Claim) -> None:
        await claims.end(own, [ended(claim)])
        await advance(own, limit=50)

    async with await connect_guarded(url, name="a") as one, await connect_guarded(url, name="b") as other:
        for _ in range(times):
            id = await begun(conn)
            left, right = await claimed(conn, worker)
            await asyncio.gather(daemon(one, left), daemon(other, right))
            while await inbox(conn):  # what one found locked by the other
                await advance(conn, limit=50)
            joins = await claimed(conn, worker)
            assert [(claim.run_id, claim.step) for claim in joins] == [(id, "join")]
            await claims.end(conn, [ended(claim) for claim in joins])
            await advance(conn, limit=50)

    assert await column(conn, "select distinct status from qw.run") == ["completed"]
    await expect_whole(conn)


async def test_completions_and_cancels_in_opposite_orders_never_deadlock(conn: Connection, url: str) -> None:
    chance = random.Random(7)
    await kept(conn, step("x", compensate={"type": "noop"}), name="inner")
    child = {"id": "child", "type": "workflow", "with": {"workflow": "inner"}, "needs": ["a"]}
    limit = {"key": "${{ input.k }}", "limit": 5}
    each = step("each", "a", foreach=[1, 2, 3], max_parallel=2)
    await kept(conn, step("a"), each, child, step("c", "a"), concurrency=limit, input={"k": "integer"})  # type: ignore[arg-type]
    ids = [await begun(conn, given={"k": n % 3}) for n in range(60)]

    async def work() -> None:
        async with await connect_guarded(url, name="worker") as own:
            worker = await registered(own)
            while not await over(own):
                with translated():
                    held = await claimed(own, worker, room=20)
                    chance.shuffle(held)
                    await claims.end(own, [ended(claim) for claim in held])

    async def advancer() -> None:
        async with await connect_guarded(url, name="advancer") as own:
            while not await over(own):
                with translated():
                    await advance(own, limit=20)

    async def cancel(order: list[UUID]) -> None:
        async with await connect_guarded(url, name="cancel") as own:
            for id in order:
                with translated():
                    await runs.cancel(own, id)
                    some = await column(own, "select id from qw.task where run_id = %s", id)
                    await tasks.cancel(own, some, running=True, reason="enough")

    async def over(own: Connection) -> bool:
        await own.execute("select qw.settle_cancels(array(select task_id from qw.cancel_request))")
        return bool(await value(own, "select bool_and(finished_at is not null) from qw.run"))

    async with asyncio.timeout(60):
        await asyncio.gather(work(), work(), advancer(), advancer(), cancel(ids[::4]), cancel(ids[::-4]))

    await Driver(conn=conn).settle()
    assert set(await column(conn, "select status from qw.run where parent_id is null")) >= {"completed", "cancelled"}
    assert await inbox(conn) == 0
    await expect_whole(conn)


async def test_a_run_that_cannot_be_planned_leaves_the_others_untouched(conn: Connection) -> None:
    await kept(conn, step("a"), step("b", "a"))
    good, bad = await begun(conn), await begun(conn)
    await conn.execute("""update qw.run set version = -1 where id = %s""", (bad,))
    await conn.execute(
        """insert into qw.workflow_version (id, workflow_id, digest, document)
           select -1, workflow_id, 'poison', '{"steps": 3}' from qw.run where id = %s""",
        (bad,),
    )
    driver = Driver(conn=conn)

    await driver.settle()

    assert (await driver.run(good)).status == "completed"
    poisoned = await driver.run(bad)
    assert poisoned.status == "failed"
    assert "cannot be planned: steps: must be a list of steps" in str(poisoned.error)


async def test_a_large_result_fails_the_step_that_takes_too_much_of_it_and_no_other_run(
    conn: Connection,
) -> None:
    text = "${{ steps.a.result + steps.a.result + steps.a.result + steps.a.result + steps.a.result }}"
    await kept(conn, step("a"), step("b", "a", **{"with": {"x": text}}))
    large, small = await begun(conn), await begun(conn)

    def act(claim: Claim) -> Json:
        return "x" * 250_000 if claim.run_id == large else "x"

    driver = Driver(conn=conn, act=act)
    await driver.settle()

    assert (await driver.run(small)).status == "completed"
    run = await driver.run(large)
    assert (run.status, run.error) == ("failed", "step b: x: the value is larger than 1,048,576 characters")


async def test_nothing_starts_after_a_cancel_has_committed(conn: Connection, url: str) -> None:
    await kept(conn, step("a"), step("b", "a"), step("c", "a"))
    worker = await registered(conn)

    async with await connect_guarded(url, name="advancer") as own:
        for _ in range(50):
            id = await begun(conn)
            (claim,) = await claimed(conn, worker)

            async def go(claim: Claim = claim) -> None:
                await claims.end(own, [ended(claim)])
                await advance(own, limit=50)

            async def stop(id: UUID = id) -> list[str]:
                await runs.cancel(conn, id)
                return await column(conn, "select step from qw.task where run_id = %s order by step", id)

            _, there = await asyncio.gather(go(), stop())
            await Driver(conn=own).advance()
            assert await column(conn, "select step from qw.task where run_id = %s order by step", id) == there
            await Driver(conn=own).settle()
            assert (await Driver(conn=own).run(id)).status in ("cancelled", "completed")
