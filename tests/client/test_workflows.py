"""What is said of the tasks under a workflow, while they go on."""

from __future__ import annotations

import asyncio
from typing import Any

from qw.client import Client
from qw.core.task import Status
from qw.handlers.command import CommandFailed
from qw.store.connection import Connection
from qw.store.runs import workflows
from tests.client.driving import Driver, begun, kept, step
from tests.given import expect_whole, until_somebody_waits


async def test_progress_tells_of_one_moment(conn: Connection, other: Connection, url: str) -> None:
    """A run that ends between two of its looks is not taken for one that ended before its second step existed."""
    await kept(conn, step("a"), step("b", "a"))
    id = await begun(conn)
    await Driver(conn=conn).work()  # a is over, b does not exist
    (workflow,) = await workflows(conn, "w")

    async with Client(url) as client:
        async with other.transaction():
            await other.execute("lock table qw.run_step")
            looking = asyncio.create_task(client.workflows.progress(workflow.id))
            await until_somebody_waits(conn)
            assert (await Driver(conn=other).finish(id)).status == "completed"
        during, after = await looking, await client.workflows.progress(workflow.id)

    assert (during.counts[Status.COMPLETED], during.total, during.to_come, during.open_runs) == (1, 1, 1, 1)
    assert (after.counts[Status.COMPLETED], after.total, after.to_come, after.open_runs) == (2, 2, 0, 0)


async def test_the_steps_that_a_switch_chose_run_and_the_choice_is_kept(conn: Connection) -> None:
    cases: Any = [
        {"if": "steps.ask.result.kind == 'card'", "then": ["card", "audit"]},
        {"else": "refuse"},
    ]
    await kept(
        conn,
        step("ask", **{"with": {"kind": "${{ input.kind }}"}}),
        {"id": "route", "needs": "ask", "switch": cases},
        *map(step, ("card", "audit", "refuse")),
        step("receipt", "card", "refuse"),
        input={"kind": "string"},
    )
    driver = Driver(conn=conn)

    by_card, refused = await begun(conn, given={"kind": "card"}), await begun(conn, given={"kind": "x"})
    await driver.finish(by_card)
    await driver.finish(refused)

    assert [name for name, status in (await driver.statuses(by_card)).items() if status == "skipped"] == ["refuse"]
    assert (await driver.steps(by_card))["route"].result == ["card", "audit"]
    assert (await driver.steps(refused))["card"].error == "switch route chose refuse"
    assert driver.done.count("receipt") == 2
    await expect_whole(conn)


async def test_the_kind_of_an_error_is_kept_with_the_attempt_the_task_and_the_step(conn: Connection, url: str) -> None:
    each = step("each", "a", foreach=[1, 2], continue_on_error=True)
    seen = {"if": "steps.a.error.code == 3 && steps.each.error.kind == 'exit:3'"}
    await kept(conn, step("a", continue_on_error=["exit:3"]), each, step("seen", "each", "a", **seen))
    driver = Driver(conn=conn, act=lambda claim: None if claim.step == "seen" else exits(3))

    id = await begun(conn)
    await driver.finish(id)

    assert await driver.statuses(id) == {"a": "failed", "each": "failed", "seen": "completed"}
    steps = await driver.steps(id)
    assert (steps["a"].error_kind, steps["each"].error_kind, steps["seen"].error_kind) == ("exit:3", "exit:3", None)
    task_id = steps["a"].task_id
    assert task_id is not None
    async with Client(url) as client:
        assert (await client.tasks.get(task_id)).error_kind == "exit:3"
        await client.tasks.retry([task_id])
        assert [attempt.error_kind for attempt in await client.tasks.attempts(task_id)] == ["exit:3"]


def exits(code: int) -> Any:
    raise CommandFailed(code, f"exit code {code}")
