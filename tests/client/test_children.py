"""Workflows that start workflows, on a real database."""

from __future__ import annotations

from typing import Any

from qw.core.payload import Json
from qw.core.task import Claim
from qw.store import runs
from qw.store.connection import Connection
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import column, value


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


async def test_what_cannot_be_started_fails_the_step(conn: Connection) -> None:
    await kept(conn, child(n="text"))
    missing = await begun(conn)
    await inner(conn)
    wrong = await begun(conn)
    driver = Driver(conn=conn)

    await driver.settle()

    assert (await driver.run(missing)).error == "step child: there is no active workflow 'inner'"
    assert "input.n: must be a whole number" in str((await driver.run(wrong)).error)


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
