"""``repeat:`` on a real database: attempts, logs and runs of the rounds, and the time between them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from qw.client import Client
from qw.core.task import Claim
from qw.core.task.payload import Json
from qw.store.connection import Connection
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import column, expect_whole, value


def counting(claim: Claim) -> Json:
    return {"round": claim.attempt}


async def test_each_round_is_an_attempt_and_the_last_result_is_kept(conn: Connection, url: str) -> None:
    await kept(
        conn,
        step("poll", repeat={"until": "result.round == 3"}),
        step("next", "poll", **{"with": {"n": "${{ steps.poll.result.round }}"}}),
    )
    id = await begun(conn)
    driver = Driver(conn=conn, act=lambda claim: counting(claim) if claim.step == "poll" else claim.payload)

    run = await driver.finish(id)

    assert (run.status, run.output) == ("completed", {"next": {"n": 3}})
    poll = (await driver.steps(id))["poll"]
    assert (poll.rounds, poll.result) == (3, {"round": 3})
    assert poll.task_id is not None
    async with Client(url) as client:
        attempts = await client.tasks.attempts(poll.task_id)
        assert [(one.attempt, one.outcome, one.result) for one in attempts] == [
            (1, "repeated", {"round": 1}),
            (2, "repeated", {"round": 2}),
        ]
        assert (await client.tasks.get(poll.task_id)).attempt == 3
    await expect_whole(conn)
    assert await inbox(conn) == 0


async def test_between_rounds_no_task_waits_and_no_slot_is_held(conn: Connection) -> None:
    await kept(conn, step("poll", repeat={"until": "result.round == 2", "delay": "1h"}))
    id = await begun(conn)
    driver = Driver(conn=conn, act=counting)

    await driver.settle()

    assert driver.done == ["poll"]
    assert (await driver.steps(id))["poll"].due_at is not None
    for home in ("ready", "scheduled", "running", "held"):
        assert await value(conn, f"select count(*) from qw.{home}") == 0
    await driver.pass_time(timedelta(hours=2))
    assert (await driver.finish(id)).status == "completed"
    assert driver.done == ["poll", "poll"]
    await expect_whole(conn)


async def test_a_round_that_fails_fails_the_step_and_one_too_many_is_exhausted(conn: Connection) -> None:
    await kept(conn, step("poll", repeat={"until": "false", "max": 2}), name="exhausted")
    await kept(conn, step("poll", repeat={"until": "false"}), name="fails")
    driver = Driver(conn=conn, act=lambda claim: fail_second(claim) if claim.payload else counting(claim))

    run = await driver.finish(await begun(conn, "exhausted"))
    assert run.error == "step poll: not done after 2 rounds (repeat until false)"
    driver.act = fail_second
    run = await driver.finish(await begun(conn, "fails"))
    assert run.error == "step poll: boom"
    await expect_whole(conn)


def fail_second(claim: Claim) -> Json:
    if claim.attempt == 2:
        raise ValueError("boom")
    return {}


@pytest.mark.parametrize("delay", ["0s", "1h"])
async def test_a_loop_over_several_steps_has_a_run_for_each_round(conn: Connection, delay: str) -> None:
    page = [step("get", **{"with": {"n": "${{ input.n }}"}}), step("put", "get")]
    outputs: Json = {"next": "${{ steps.get.result.n + 1 }}"}
    await kept(conn, *page, name="page", input={"n": "integer"}, outputs=outputs)
    loop: Any = {
        "id": "all",
        "type": "workflow",
        "with": {"workflow": "page", "input": {"n": "${{ result.next if round > 1 else 0 }}"}},
        "repeat": {"while": "round == 0 || result.next < 15", "delay": delay},
    }
    await kept(conn, loop)
    id = await begun(conn)
    driver = Driver(conn=conn)

    for _ in range(15):
        await driver.settle()
        await driver.pass_time(timedelta(hours=2))
    run = await driver.finish(id)

    assert (run.status, run.output) == ("completed", {"all": {"next": 15}})
    assert driver.done == ["get", "put"] * 15
    assert await column(conn, "select distinct depth from qw.run order by 1") == [0, 1]
    await expect_whole(conn)


async def test_the_runs_of_all_rounds_are_undone_the_last_one_first(conn: Connection) -> None:
    undo = {"type": "noop", "with": {"undo": "${{ input.n }}"}}
    await kept(conn, step("do", compensate=undo), name="page", input={"n": "integer"})
    loop: Any = {
        "id": "all",
        "type": "workflow",
        "with": {"workflow": "page", "input": {"n": "${{ round }}"}},
        "repeat": {"until": "round == 3"},
    }
    await kept(conn, loop, step("bad", "all"))
    id = await begun(conn)
    undone = []

    def act(claim: Claim) -> Json:
        if claim.step == "bad":
            raise ValueError("boom")
        if claim.step == "compensate:do":
            undone.append(claim.payload["undo"])
        return {}

    run = await Driver(conn=conn, act=act).finish(id)

    assert (run.status, run.detail) == ("failed", "compensated")
    assert undone == [3, 2, 1]
    await expect_whole(conn)


async def test_a_repeat_that_a_cancel_stops_goes_on_anew_when_the_run_is_retried(conn: Connection, url: str) -> None:
    await kept(conn, step("poll", repeat={"until": "result.round == 2", "delay": "1h"}))
    id = await begun(conn)
    driver = Driver(conn=conn, act=counting)
    await driver.settle()

    async with Client(url) as client:
        await client.runs.cancel(id)
        assert (await driver.finish(id)).status == "cancelled"
        assert "rounds" in ((await driver.steps(id))["poll"].error or "")
        await client.runs.retry(id)
    await driver.settle()
    await driver.pass_time(timedelta(hours=2))
    assert (await driver.finish(id)).status == "completed"
    assert len(driver.done) == 3
    await expect_whole(conn)
