"""Workflows that start workflows, on a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.task import Claim
from qw.core.task.handler_api import Failure
from qw.core.task.payload import Json
from qw.engine.advance import advance
from qw.store import runs
from qw.store.connection import Connection
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import column, expect_whole, value


def child(*needs: str, **input: Json) -> Any:
    given: Any = {"workflow": "inner", "input": input}
    return {"id": "child", "type": "workflow", "with": given, "needs": list(needs)}


UNDONE = {"compensate": {"type": "noop", "with": {"undo": "${{ steps.x.result.n }}"}}}


async def inner(conn: Connection, *more: Json, **top: Any) -> None:
    first = step("x", **{"with": {"n": "${{ input.n }}"}}, **UNDONE)
    await kept(conn, first, *more, name="inner", input={"n": {"type": "integer", "default": 0}}, **top)


async def test_a_sub_workflow_gets_its_input_and_gives_its_output(conn: Connection) -> None:
    await inner(conn, outputs={"twice": "${{ steps.x.result.n * 2 }}"})
    await kept(conn, step("a"), child("a", n=21), step("b", "child", **{"with": {"is": "${{ steps.child.result }}"}}))
    id = await begun(conn)
    driver = Driver(conn=conn)

    run = await driver.finish(id)

    assert run.output == {"b": {"is": {"twice": 42}}}
    assert driver.done == ["a", "x", "b"]
    assert await column(conn, "select parent_id from qw.run where workflow = 'inner'") == [id]
    assert await inbox(conn) == 0


async def test_a_sub_workflow_that_fails_fails_its_step(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, child(n=1))
    id = await begun(conn)

    run = await Driver(conn=conn, act=lambda claim: 1 / 0).finish(id)

    assert (run.status, run.error) == ("failed", "step child: step x: division by zero")


async def test_the_step_of_a_failed_sub_workflow_has_the_kind_of_the_error_in_it(conn: Connection) -> None:
    await kept(conn, step("x", foreach=[1]), name="innermost")
    middle: Any = {"id": "y", "type": "workflow", "with": {"workflow": "innermost"}}
    await kept(conn, middle, name="inner", on_failure=[step("tell", **{"with": {"kind": "${{ run.error.kind }}"}})])
    await kept(
        conn,
        {**child(), "continue_on_error": ["card:x", "card:declined"]},
        {**child(), "id": "several", "foreach": [1], "needs": ["child"], "continue_on_error": True},
        step("seen", "several", **{"if": "steps.child.error.kind == steps.several.error.kind"}),
    )
    id = await begun(conn)
    told: list[Json] = []

    def act(claim: Claim) -> Json:
        if claim.step == "tell":
            told.append(claim.payload["kind"])
        if claim.step == "x[0]":
            raise Failure("no money", kind="card:declined")
        return claim.payload

    driver = Driver(conn=conn, act=act)
    run = await driver.finish(id)

    assert (run.status, run.error_kind) == ("completed", None)
    assert {name: one.error_kind for name, one in (await driver.steps(id)).items()} == {
        "child": "card:declined",
        "several": "card:declined",
        "seen": None,
    }
    assert (await driver.statuses(id))["seen"] == "completed"
    assert told == ["card:declined", "card:declined"]
    await expect_whole(conn)


async def test_the_step_of_a_sub_workflow_that_took_too_long_failed_by_its_timeout(conn: Connection) -> None:
    tell = step("tell", **{"with": {"kind": "${{ run.error.kind }}"}})
    await kept(conn, step("x"), name="inner", timeout="1h", on_failure=[tell])
    await kept(conn, {**child(), "continue_on_error": ["timeout"]})
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.advance()

    await driver.pass_time(timedelta(hours=2))
    run = await driver.finish(id)

    assert run.status == "completed"
    assert (await driver.steps(id))["child"].error_kind == "timeout"
    assert await column(conn, "select payload from qw.task where step = 'tell'") == [{"kind": "timeout"}]


async def test_a_sub_workflow_that_fails_is_started_again_where_its_step_has_retry(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, {**child(n=1), "retry": {"max_retries": 3, "delay": "1h", "backoff": 1}})
    id = await begun(conn)
    tries: list[Claim] = []

    def act(claim: Claim) -> Json:
        tries.append(claim)
        if len(tries) < 3:
            raise ValueError("not yet")
        return claim.payload

    driver = Driver(conn=conn, act=act)
    for count in (1, 2):
        await driver.settle()
        assert (await driver.run(id)).status == "running"
        assert await column(conn, "select status from qw.run where workflow = 'inner'") == ["failed"] * count
        await driver.pass_time(timedelta(hours=1, seconds=1))
    run = await driver.finish(id)

    assert (run.status, run.error, run.output) == ("completed", None, {"child": {"x": {"n": 1}}})
    assert await inbox(conn) == 0


async def test_tries_of_a_sub_workflow_end_with_the_error_of_the_last(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, {**child(n=1), "retry": {"max_retries": 2, "delay": "1h"}, "continue_on_error": ["workflow"]})
    id = await begun(conn)
    driver = Driver(conn=conn, act=lambda claim: 1 / 0)

    await driver.settle()
    await driver.pass_time(timedelta(hours=1, seconds=1))
    run = await driver.finish(id)

    step_ = (await driver.steps(id))["child"]
    assert (run.status, step_.status, step_.error) == ("completed", "failed", "step x: division by zero")
    assert len(driver.done) == 2


async def test_a_failure_behind_it_undoes_the_try_that_was_completed_once(conn: Connection) -> None:
    await inner(conn, step("y", "x"))
    await kept(conn, {**child(n=1), "retry": {"max_retries": 2, "delay": "1h"}}, step("last", "child"))
    id = await begun(conn)
    failing = iter(["y", "last"])
    next_ = [next(failing)]

    def act(claim: Claim) -> Json:
        if claim.step == next_[0]:
            next_[0] = next(failing, "")
            raise ValueError("no")
        return claim.payload

    driver = Driver(conn=conn, act=act)
    await driver.settle()
    await driver.pass_time(timedelta(hours=1, seconds=1))
    run = await driver.finish(id)

    assert (run.status, run.detail) == ("failed", "compensated")
    assert driver.done == ["x", "y", "compensate:x", "x", "y", "last", "compensate:x"]


async def test_a_sub_workflow_takes_no_longer_than_its_step_allows(conn: Connection) -> None:
    wait: Any = {"id": "w", "type": "wait_signal"}
    await kept(conn, wait, name="inner", timeout="2h")
    await kept(conn, {**child(), "timeout": "1h"})
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await driver.pass_time(timedelta(hours=1, seconds=1))
    run = await driver.finish(id)

    assert run.status == "failed"
    assert str(run.error).startswith("step child: the run took longer than")


async def test_what_cannot_be_started_fails_the_step(conn: Connection) -> None:
    await kept(conn, child(n="text"))
    missing = await begun(conn)
    await inner(conn)
    wrong = await begun(conn)
    driver = Driver(conn=conn)

    await driver.settle()

    assert (await driver.run(missing)).error == "step child: there is no active workflow 'inner'"
    assert "input.n: must be an integer" in str((await driver.run(wrong)).error)


async def test_a_workflow_that_starts_itself_is_stopped(conn: Connection) -> None:
    await kept(conn, child(), name="inner")
    id = await begun(conn, "inner")

    run = await Driver(conn=conn).finish(id)

    assert "runs start runs more than 10 deep" in str(run.error)
    assert await value(conn, "select count(*) from qw.run") == 11


async def test_a_cancel_goes_down(conn: Connection) -> None:
    await inner(conn, {"id": "wait", "type": "wait_signal"})
    await kept(conn, child(n=1), step("b", "child"))
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await runs.cancel(conn, id)
    await driver.settle()

    assert await column(conn, "select status from qw.run") == ["cancelled", "cancelled"]
    assert await driver.statuses(id) == {"child": "cancelled", "b": "skipped"}
    assert await inbox(conn) == 0


async def test_compensation_goes_down_in_reverse_order(conn: Connection) -> None:
    undo: Any = {"compensate": {"type": "noop"}}
    await inner(conn, step("y", "x", **undo))
    await kept(conn, step("a", **undo), child("a", n=1), step("c", "child", **undo), step("bad", "c"))
    id = await begun(conn)

    def act(claim: Claim) -> Json:
        if claim.step == "bad":
            raise ValueError("boom")
        return claim.payload

    driver = Driver(conn=conn, act=act)
    run = await driver.finish(id)

    assert driver.done[5:] == ["compensate:c", "compensate:y", "compensate:x", "compensate:a"]
    assert (run.status, run.detail, run.error) == ("failed", "compensated", "step bad: boom")
    (below,) = await runs.get(conn, await column(conn, "select id from qw.run where workflow = 'inner'"))
    assert (below.status, below.detail) == ("failed", "compensated")
    assert (await driver.statuses(id))["compensate:child"] == "completed"
    assert await inbox(conn) == 0


async def test_a_compensation_that_fails_below_is_told_above(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, child(n=1), step("bad", "child"))
    id = await begun(conn)

    def act(claim: Claim) -> Json:
        if claim.step in ("bad", "compensate:x"):
            raise ValueError("no")
        return claim.payload

    run = await Driver(conn=conn, act=act).finish(id)

    assert run.detail == "compensation_failed"
    assert "not undone: compensate:child (undone: the run that started it goes back; not undone" in str(run.error)


async def test_a_run_that_was_stopped_half_way_is_undone_too(conn: Connection) -> None:
    await inner(conn, {"id": "wait", "type": "wait_signal", "needs": ["x"]})
    await kept(conn, child(n=1), timeout="1h")
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await driver.pass_time(timedelta(hours=2))
    run = await driver.finish(id)

    assert driver.done == ["x", "compensate:x"]
    assert (run.detail, run.error) == ("compensated", "the run took longer than 1h")
    assert await column(conn, "select detail from qw.run") == ["compensated", "compensated"]
    assert await inbox(conn) == 0


async def test_a_cancel_that_goes_down_undoes_nothing(conn: Connection) -> None:
    await inner(conn, {"id": "wait", "type": "wait_signal", "needs": ["x"]})
    await kept(conn, child(n=1))
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await runs.cancel(conn, id)
    run = await driver.finish(id)

    assert (run.status, driver.done) == ("cancelled", ["x"])


@pytest.mark.parametrize("more", [{}, {"foreach": [1]}])
async def test_a_run_that_has_not_begun_to_undo_is_waited_for(conn: Connection, more: Any) -> None:
    await inner(conn)
    await kept(conn, {**child(n=1), **more}, step("bad", "child"))
    id = await begun(conn)
    driver = Driver(conn=conn, act=lambda claim: 1 / 0 if claim.step == "bad" else claim.payload)
    while not await value(conn, "select exists (select 1 from qw.advance where ask = 'undo')"):
        await driver.work()
        await advance(conn, limit=50)

    await conn.execute("update qw.advance set at = now() + interval '1h' where ask = 'undo'")
    await conn.execute("insert into qw.advance (run_id) values (%s)", (id,))
    await driver.settle()

    assert (await driver.statuses(id))["compensate:child"] == "running"
    await driver.pass_time(timedelta(hours=2))
    assert (await driver.finish(id)).detail == "compensated"


# -- one for each item


def each(items: Json, **more: Any) -> Any:
    return {**child(n="${{ item }}"), "id": "each", "foreach": items, **more}


async def test_a_foreach_starts_a_run_for_each_item_and_gathers_their_outputs_in_order(conn: Connection) -> None:
    await inner(conn, outputs={"twice": "${{ steps.x.result.n * 2 }}"})
    total = {"with": {"n": "${{ sum([steps.each.result[0].twice, steps.each.result[2].twice]) }}"}}
    await kept(conn, each([1, 2, 3]), step("sum", "each", **total))
    id = await begun(conn)

    run = await Driver(conn=conn).finish(id)

    assert (await Driver(conn=conn).steps(id))["each"].result == [{"twice": 2}, {"twice": 4}, {"twice": 6}]
    assert run.output == {"sum": {"n": 8}}
    assert await column(conn, "select parent_id from qw.run where workflow = 'inner'") == [id] * 3
    assert await inbox(conn) == 0
    await expect_whole(conn)


async def test_no_more_than_max_parallel_runs_go_on_at_a_time(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, each(list(range(5)), max_parallel=2))
    id = await begun(conn)
    driver = Driver(conn=conn)

    await driver.finish(id)

    assert (driver.busy, len(driver.done)) == (2, 5)


async def test_a_run_that_fails_or_cannot_start_is_a_failed_item(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, each([1, "two", 13], continue_on_error=True), step("after", "each"))
    id = await begun(conn)

    def act(claim: Claim) -> Json:
        if claim.payload.get("n") == 13:
            raise ValueError("unlucky")
        return claim.payload

    run = await Driver(conn=conn, act=act).finish(id)

    failed = (await Driver(conn=conn).steps(id))["each"]
    assert run.status == "completed"
    assert failed.result == [{"x": {"n": 1}}, None, None]
    assert str(failed.error).startswith("2 of 3 items failed: item 1: input.n: must be an integer")


async def test_a_foreach_of_a_missing_workflow_fails_every_item(conn: Connection) -> None:
    await kept(conn, each([1, 2]))
    id = await begun(conn)

    run = await Driver(conn=conn).finish(id)

    assert run.error == "step each: 2 of 2 items failed: item 0: there is no active workflow 'inner'"


async def test_a_cancel_reaches_the_runs_of_the_items(conn: Connection) -> None:
    await inner(conn, {"id": "wait", "type": "wait_signal"})
    await kept(conn, each([1, 2, 3], max_parallel=2))
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await runs.cancel(conn, id)
    run = await driver.finish(id)

    assert run.status == "cancelled"
    assert await column(conn, "select status from qw.run where workflow = 'inner'") == ["cancelled"] * 2
    assert await inbox(conn) == 0


async def test_the_runs_of_the_items_are_undone_one_by_one_the_last_that_ended_first(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, each([5, 6, 7], max_parallel=1), step("bad", "each"))
    id = await begun(conn)
    undone: list[Json] = []

    def act(claim: Claim) -> Json:
        if claim.step == "bad":
            raise ValueError("boom")
        undone.extend([claim.payload["undo"]] if "undo" in claim.payload else [])
        return claim.payload

    driver = Driver(conn=conn, act=act)
    run = await driver.finish(id)

    assert (run.status, run.detail, undone) == ("failed", "compensated", [7, 6, 5])
    assert await column(conn, "select detail from qw.run where workflow = 'inner'") == ["compensated"] * 3
    assert driver.busy == 1
    assert await inbox(conn) == 0
    await expect_whole(conn)


async def test_items_of_which_one_cannot_be_undone_are_undone_all_the_same(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, each([5, 6], max_parallel=1), step("bad", "each"))
    id = await begun(conn)

    def act(claim: Claim) -> Json:
        if claim.step == "bad" or claim.payload.get("undo") == 6:
            raise ValueError("no")
        return claim.payload

    run = await Driver(conn=conn, act=act).finish(id)

    assert run.detail == "compensation_failed"
    assert "not undone: compensate:each (1 of 2 items failed" in str(run.error)
    details = await column(conn, "select detail from qw.run where workflow = 'inner' order by input ->> 'n'")
    assert details == ["compensated", "compensation_failed"]


async def test_a_step_may_say_itself_how_its_sub_workflow_is_undone(conn: Connection) -> None:
    await inner(conn)
    await kept(conn, {**child(n=1), "compensate": {"type": "noop"}}, step("bad", "child"))
    id = await begun(conn)

    def act(claim: Claim) -> Json:
        if claim.step == "bad":
            raise ValueError("no")
        return claim.payload

    driver = Driver(conn=conn, act=act)
    run = await driver.finish(id)

    assert run.detail == "compensated"
    assert driver.done == ["x", "bad", "compensate:child"]
    assert await column(conn, "select status from qw.run order by workflow") == ["completed", "failed"]


async def test_a_run_below_is_kept_as_long_as_the_one_that_started_it(conn: Connection) -> None:
    await inner(conn, outputs={"n": 7})
    await kept(conn, {**child(n=1), "compensate": {"type": "noop"}}, step("bad", "child"))
    id = await begun(conn)
    await Driver(conn=conn, act=lambda claim: 1 / 0 if claim.step == "bad" else claim.payload).finish(id)
    no, long = timedelta(0), timedelta(hours=1)

    async def old(failed: timedelta) -> list[UUID]:
        return await runs.past_retention(conn, completed=no, failed=failed, limit=10)

    assert await old(long) == []
    assert (await Driver(conn=conn).steps(id))["child"].result == {"n": 7}

    assert await runs.prune(conn, await old(no)) == [id]
    assert len(await runs.prune(conn, await old(no))) == 1
    assert await value(conn, "select count(*) from qw.run") == 0
