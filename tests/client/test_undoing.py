"""Compensations that failed: retried, retried as tasks, marked as done by hand; and what the run above makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.client import Client
from qw.core.errors import Conflict, Invalid
from qw.core.task import Claim
from qw.core.task.answer import Answer, AnswerCode
from qw.core.task.payload import Json
from qw.store import runs, tasks
from qw.store.connection import Connection
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import column, stepped, value


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, size=2) as opened:
        yield opened


UNDO: Any = {"compensate": {"type": "noop"}}
PAY = (step("reserve", **UNDO), step("charge", "reserve", **UNDO), step("ship", "charge"))


def failing(*steps: str) -> Any:
    def act(claim: Claim) -> Json:
        if claim.step in steps:
            raise ValueError("boom")
        return claim.payload

    return act


async def half_undone(conn: Connection, *steps: Json) -> UUID:
    """A run of which ``ship`` failed, and then the undoing of ``charge``."""
    await kept(conn, *(steps or PAY))
    id = await begun(conn)
    run = await Driver(conn=conn, act=failing("ship", "compensate:charge")).finish(id)
    assert (run.detail, run.error) == ("compensation_failed", "step ship: boom; not undone: compensate:charge (boom)")
    return id


async def task_of(conn: Connection, id: UUID, step_id: str) -> UUID:
    found = await value(conn, "select task_id from qw.run_step where run_id = %s and step = %s", id, step_id)
    assert isinstance(found, UUID)
    return found


async def test_a_retry_does_not_repeat_what_was_not_undone(conn: Connection, client: Client) -> None:
    id = await half_undone(conn)

    await client.runs.retry(id)
    driver = Driver(conn=conn)
    run = await driver.finish(id)

    assert (run.status, driver.done) == ("completed", ["reserve", "ship"])


async def test_a_failed_compensation_is_retried_and_the_run_follows(conn: Connection, client: Client) -> None:
    id = await half_undone(conn)

    await client.runs.retry(id, step="compensate:charge", by="zoe")
    driver = Driver(conn=conn)
    assert (await driver.run(id)).status == "running"
    run = await driver.finish(id)

    assert driver.done == ["compensate:charge"]
    assert (run.status, run.detail, run.error) == ("failed", "compensated", "step ship: boom")
    assert await inbox(conn) == 0


async def test_a_compensation_is_retried_with_an_edited_definition(conn: Connection, client: Client) -> None:
    id = await half_undone(conn)
    edited: Any = [PAY[0], {**PAY[1], "compensate": {"type": "noop", "with": {"better": True}}}, PAY[2]]

    await client.runs.retry(id, step="compensate:charge", document={"steps": edited})
    run = await Driver(conn=conn).finish(id)

    assert run.detail == "compensated"
    assert (await Driver(conn=conn).steps(id))["compensate:charge"].result == {"better": True}


async def test_the_task_of_a_failed_compensation_is_retried_and_the_run_follows(
    conn: Connection, client: Client
) -> None:
    id = await half_undone(conn)
    task = await task_of(conn, id, "compensate:charge")

    assert (await client.tasks.retry([task]))[task].is_done
    run = await Driver(conn=conn, act=failing("compensate:charge")).finish(id)
    assert (run.detail, run.error) == ("compensation_failed", "step ship: boom; not undone: compensate:charge (boom)")
    assert (await client.tasks.retry([task]))[task].is_done
    with pytest.raises(Conflict, match="the run is running"):
        await client.runs.retry(id)
    run = await Driver(conn=conn).finish(id)

    assert (run.detail, run.error) == ("compensated", "step ship: boom")
    assert await inbox(conn) == 0


async def test_a_compensation_that_its_run_left_behind_is_not_retried(conn: Connection, client: Client) -> None:
    id = await half_undone(conn)
    task = await task_of(conn, id, "compensate:charge")
    await client.runs.retry(id)

    answers = await client.tasks.retry([task])

    assert answers == {task: Answer(AnswerCode.LEFT_BEHIND)}
    assert "so there is nothing to undo" in str(answers[task].error("retry", task))
    assert (await tasks.get(conn, [task]))[0].status == "failed"


async def test_what_was_undone_by_hand_is_marked_as_done(conn: Connection, client: Client) -> None:
    id = await half_undone(conn)

    done = await client.runs.mark_compensated(id, "charge", by="zoe", comment="refunded at the bank")

    assert done == "compensate:charge"
    run = await Driver(conn=conn).finish(id)
    assert (run.detail, run.error) == ("compensated", "step ship: boom")
    shown = (await Driver(conn=conn).steps(id))["compensate:charge"]
    assert (shown.status, shown.error) == ("completed", None)
    assert shown.result == {"byHand": True, "by": "zoe", "comment": "refunded at the bank"}
    assert [(one.name, one.sent_by) for one in await runs.signals(conn, id)] == [("run:compensation-done", "zoe")]

    await client.runs.retry(id)
    driver = Driver(conn=conn)
    await driver.finish(id)
    assert driver.done == ["reserve", "charge", "ship"]


async def test_what_cannot_be_marked_as_done_says_why(conn: Connection, client: Client) -> None:
    id = await half_undone(conn)

    with pytest.raises(Conflict, match="compensate:reserve is completed; only a compensation that failed"):
        await client.runs.mark_compensated(id, "reserve", by="x")
    with pytest.raises(Invalid, match="'ship' is not a compensation of this run"):
        await client.runs.mark_compensated(id, "ship", by="x")
    await client.runs.retry(id, step="compensate:charge")
    with pytest.raises(Conflict, match="its compensations are still running"):
        await client.runs.mark_compensated(id, "charge", by="x")


async def test_a_compensation_task_of_on_failure_follows_too(conn: Connection, client: Client) -> None:
    await kept(conn, step("a"), step("b", "a"), on_failure=[step("undo", type="compensation")])
    id = await begun(conn)
    run = await Driver(conn=conn, act=failing("b", "undo")).finish(id)
    assert run.detail == "compensation_failed"

    await client.tasks.retry([await task_of(conn, id, "undo")])
    run = await Driver(conn=conn).finish(id)

    assert (run.detail, run.error) == ("compensated", "step b: boom")


async def test_what_a_compensation_task_has_undone_is_done_again_and_not_undone_twice(
    conn: Connection, client: Client
) -> None:
    await kept(conn, step("a"), step("b", "a"), step("c", "b"), on_failure=[step("undo", type="compensation")])
    id = await begun(conn)
    await Driver(conn=conn, act=failing("c", "undo")).finish(id)
    undone, undo = await task_of(conn, id, "a"), await task_of(conn, id, "undo")
    await stepped(conn, undo, f"undo:{undone}", {"action": "undone"})

    await client.runs.retry(id)
    driver = Driver(conn=conn, act=failing("c", "undo"))
    await driver.finish(id)

    assert driver.done == ["a", "c", "undo"]
    left = [one.task_id for one in await runs.completed_of_run(conn, id)]
    assert left == [await task_of(conn, id, "a"), await task_of(conn, id, "b")]


INNER: Any = {"id": "child", "type": "workflow", "with": {"workflow": "inner"}}


async def test_a_run_above_follows_when_what_it_could_not_undo_is_undone(conn: Connection, client: Client) -> None:
    await kept(conn, *PAY, name="inner")
    await kept(conn, INNER, step("bad", "child"))
    id = await begun(conn)
    run = await Driver(conn=conn, act=failing("bad", "compensate:charge")).finish(id)
    assert run.detail == "compensation_failed"
    (below,) = await column(conn, "select id from qw.run where workflow = 'inner'")
    with pytest.raises(Conflict, match=f"compensate:child undoes run {below}"):
        await client.runs.retry(id, step="compensate:child")
    with pytest.raises(Conflict, match="the run that step child started is only partly undone"):
        await client.runs.retry(id)

    await client.tasks.retry([await task_of(conn, below, "compensate:charge")])
    run = await Driver(conn=conn).finish(id)

    assert (run.detail, run.error) == ("compensated", "step bad: boom")
    assert (await Driver(conn=conn).run(below)).detail == "compensated"
    assert await inbox(conn) == 0


async def test_a_run_above_follows_where_items_could_not_be_undone(conn: Connection, client: Client) -> None:
    await kept(conn, *PAY, name="inner")
    await kept(conn, {**INNER, "foreach": [1, 2]}, step("bad", "child"))
    id = await begun(conn)
    await Driver(conn=conn, act=failing("bad", "compensate:charge")).finish(id)

    for below in await column(conn, "select id from qw.run where workflow = 'inner'"):
        assert (await Driver(conn=conn).run(id)).detail == "compensation_failed"
        await client.runs.retry(below, step="compensate:charge")
        await Driver(conn=conn).finish(below)

    assert (await Driver(conn=conn).run(id)).detail == "compensated"


@pytest.mark.parametrize("foreach", [None, [1, 2]])
async def test_a_retry_goes_on_in_the_runs_below(conn: Connection, client: Client, foreach: Json) -> None:
    await kept(conn, *PAY, name="inner")
    await kept(conn, {**INNER, "foreach": foreach}, step("last", "child"))
    id = await begun(conn)
    run = await Driver(conn=conn, act=failing("ship", "compensate:charge")).finish(id)
    assert run.status == "failed"

    await client.runs.retry(id)
    driver = Driver(conn=conn)
    run = await driver.finish(id)

    assert run.status == "completed"
    assert "charge" not in driver.done
    assert await value(conn, "select count(*) from qw.run where workflow = 'inner'") == (2 if foreach else 1)


async def test_a_compensation_is_tried_as_it_says(conn: Connection) -> None:
    undo: Json = {"type": "noop", "retry": {"max_retries": 7, "delay": "3s"}, "timeout": "9s"}
    await kept(conn, step("a", compensate=undo), step("b", "a"))
    id = await begun(conn)
    await Driver(conn=conn, act=failing("b")).finish(id)

    (task,) = await tasks.get(conn, [await task_of(conn, id, "compensate:a")])

    assert (task.max_retries, task.timeout) == (7, timedelta(seconds=9))
    delay = await value(conn, "select backoff ->> 'delay' from qw.task where id = %s", task.id)
    assert delay is not None


def test_what_a_compensation_may_not_say_has_its_place() -> None:
    from qw.core.workflow import parse_workflow

    undo: Json = {"type": "noop", "retry": {"max_retries": 0}, "queue": "q"}
    with pytest.raises(Invalid, match=r"compensate.queue: 'queue' is not a key.*compensate.retry.max_retries: "):
        parse_workflow("w", {"steps": [step("a", compensate=undo)]})
