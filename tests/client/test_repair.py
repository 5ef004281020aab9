"""Runs that are over and go on: retry from what failed, from a step, with another definition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from qw.client import Client
from qw.core.errors import Conflict, Invalid, NotFound
from qw.core.task import Claim
from qw.core.task.payload import Json
from qw.store import runs
from qw.store.connection import Connection
from qw.store.ids import new_id
from tests.client.driving import Driver, begun, kept, step
from tests.given import value


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, size=2) as opened:
        yield opened


def failing(*steps: str) -> Any:
    def act(claim: Claim) -> Json:
        if claim.step in steps:
            raise ValueError("boom")
        return claim.payload

    return act


async def failed(conn: Connection, *steps: str) -> UUID:
    id = await begun(conn)
    await Driver(conn=conn, act=failing(*steps)).finish(id)
    return id


CHAIN = (step("a"), step("b", "a"), step("c", "b"))


async def test_a_retry_goes_on_from_what_failed_and_keeps_what_is_finished(conn: Connection, client: Client) -> None:
    await kept(conn, *CHAIN, on_failure=[step("tell")])
    id = await failed(conn, "b")

    await client.runs.retry(id)

    driver = Driver(conn=conn)
    assert await driver.statuses(id) == {"a": "completed", "b": "running"}
    run = await driver.finish(id)
    assert (run.status, run.error, run.detail) == ("completed", None, None)
    assert driver.done == ["b", "c"]


async def test_a_step_that_was_undone_is_done_again_and_no_other(conn: Connection, client: Client) -> None:
    await kept(conn, step("a", compensate={"type": "noop"}), step("b", "a"), step("c", "a"), step("d", "b", "c"))
    id = await failed(conn, "d")

    await client.runs.retry(id)
    driver = Driver(conn=conn)
    await driver.finish(id)

    assert driver.done == ["a", "d"]


async def test_who_retried_and_who_cancelled_is_kept(conn: Connection, client: Client) -> None:
    await kept(conn, *CHAIN)
    id = await failed(conn, "b")

    await client.runs.retry(id, step="a", by="zoe")
    await client.runs.cancel(id, by="max")

    told = [(one.name, one.sent_by, one.payload) for one in await runs.signals(conn, id)]
    retried = {"step": "a", "latest": False, "edited": False}
    assert told == [("run:retry", "zoe", retried), ("run:cancel", "max", None)]


EACH = step("each", foreach=[1, 2], **{"with": {"n": "${{ item }}"}}, max_parallel=1)


async def test_items_that_were_undone_are_done_again(conn: Connection, client: Client) -> None:
    await kept(conn, {**EACH, "compensate": {"type": "noop"}}, step("b", "each"))
    id = await failed(conn, "b")

    await client.runs.retry(id)
    driver = Driver(conn=conn)
    run = await driver.finish(id)

    assert (run.status, driver.done) == ("completed", ["each[0]", "each[1]", "b"])


async def test_a_retry_from_a_foreach_does_all_its_items_again(conn: Connection, client: Client) -> None:
    await kept(conn, step("a"), {**EACH, "needs": ["a"]})
    id = await failed(conn)

    for step_id, done in (("each", ["each[0]", "each[1]"]), ("a", ["a", "each[0]", "each[1]"])):
        await client.runs.retry(id, step=step_id)
        driver = Driver(conn=conn)
        await driver.finish(id)

        assert driver.done == done


async def test_a_retry_from_a_step_does_it_and_what_needs_it_again(conn: Connection, client: Client) -> None:
    await kept(conn, *CHAIN, step("x", "a"))
    id = await failed(conn)

    await client.runs.retry(id, step="b")
    driver = Driver(conn=conn)
    run = await driver.finish(id)

    assert run.status == "completed"
    assert driver.done == ["b", "c"]


async def test_a_retry_takes_the_newest_definition_only_when_asked(conn: Connection, client: Client) -> None:
    await kept(conn, *CHAIN)
    id = await failed(conn, "b")
    await kept(conn, step("a"), step("b", "a", type="data_processing"), step("d", "b"))

    await client.runs.retry(id)
    await Driver(conn=conn, act=failing("b")).finish(id)
    assert await value(conn, "select count(*) from qw.task where type = 'data_processing'") == 0
    await client.runs.retry(id, latest=True)
    driver = Driver(conn=conn)
    await driver.finish(id)

    assert driver.done == ["b", "d"]
    assert await value(conn, "select count(*) from qw.task where type = 'data_processing'") == 1


async def test_an_edited_definition_is_for_this_run_only(conn: Connection, client: Client) -> None:
    await kept(conn, *CHAIN)
    id = await failed(conn, "b")

    await client.runs.retry(id, document={"steps": [step("a"), step("z", "a")]})
    driver = Driver(conn=conn)
    await driver.finish(id)

    assert driver.done == ["z"]
    assert list(await driver.steps(id)) == ["a", "z"]
    assert [one["id"] for one in (await client.workflows.get("w")).document["steps"]] == ["a", "b", "c"]  # type: ignore[index,union-attr,call-overload]


async def test_items_that_were_completed_are_not_done_again(conn: Connection, client: Client) -> None:
    await kept(conn, step("each", foreach=[1, 2, 3, 4], **{"with": {"n": "${{ item }}"}}, max_parallel=2))
    id = await failed(conn, "each[2]")

    await client.runs.retry(id)
    driver = Driver(conn=conn, act=lambda claim: claim.payload["n"])
    run = await driver.finish(id)

    assert run.status == "completed"
    assert driver.done == ["each[2]"] or sorted(driver.done) == ["each[2]", "each[3]"]
    assert len((await driver.steps(id))["each"].result) == 4  # type: ignore[arg-type]


async def test_a_cancelled_run_can_be_retried(conn: Connection, client: Client) -> None:
    await kept(conn, *CHAIN)
    id = await begun(conn)
    await runs.cancel(conn, id)
    await Driver(conn=conn).advance()

    await client.runs.retry(id)

    assert (await Driver(conn=conn).finish(id)).status == "completed"


async def test_what_cannot_be_retried_says_why(conn: Connection, client: Client) -> None:
    await kept(conn, *CHAIN)
    going, done = await begun(conn), await failed(conn)
    going = await begun(conn)

    with pytest.raises(Conflict, match="the run is running; only a finished run"):
        await client.runs.retry(going)
    with pytest.raises(Conflict, match="no step failed; to repeat a step"):
        await client.runs.retry(done)
    with pytest.raises(Invalid, match="'bb' is not a step; did you mean 'b'"):
        await client.runs.retry(done, step="bb")
    with pytest.raises(Invalid, match="at least one step"):
        await client.runs.retry(done, document={})
    with pytest.raises(NotFound):
        await client.runs.retry(new_id())


APPROVAL: Any = {"id": "ok", "type": "approval", "with": {"message": "really?"}}


async def test_an_approval_knows_who_and_when(conn: Connection, client: Client) -> None:
    await kept(conn, APPROVAL, step("b", "ok", **{"with": {"by": "${{ steps.ok.result.by }}"}}))
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()
    assert (await driver.steps(id))["ok"].result == {"message": "really?"}

    assert await client.runs.approve(id, by="zoe", comment="fine") == "ok"
    run = await driver.finish(id)

    assert run.output == {"b": {"by": "zoe"}}
    result: Any = (await driver.steps(id))["ok"].result
    assert (result["approved"], result["comment"]) == (True, "fine")
    assert result["at"] is not None


async def test_a_rejection_takes_the_way_of_a_failure(conn: Connection, client: Client) -> None:
    await kept(conn, step("a", compensate={"type": "noop"}), {**APPROVAL, "needs": ["a"]}, step("b", "ok"))
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await client.runs.reject(id, "ok", by="zoe", comment="too dear")
    run = await driver.finish(id)

    assert (run.status, run.detail, run.error) == ("failed", "compensated", "step ok: rejected by zoe: too dear")


async def test_an_approval_is_decided_once_and_only_where_there_is_one(conn: Connection, client: Client) -> None:
    await kept(conn, step("a"), {**APPROVAL, "needs": ["a"]})
    id = await begun(conn)

    with pytest.raises(Conflict, match=r"is waiting for an approval"):
        await client.runs.approve(id, by="x")
    with pytest.raises(Invalid, match="'a' is not an approval of workflow w; there are: ok"):
        await client.runs.approve(id, "a", by="x")
    await client.runs.approve(id, "ok", by="x")
    with pytest.raises(Conflict, match="has already been decided"):
        await client.runs.reject(id, "ok", by="y")
    assert (await Driver(conn=conn).finish(id)).status == "completed"
    with pytest.raises(Conflict, match="nothing left to approve"):
        await client.runs.reject(id, "ok", by="y")
