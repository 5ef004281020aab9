"""`continue_on_error`, `finally`, `outputs` and failures on the way, on a real database."""

from __future__ import annotations

from typing import Any

import pytest

from qw.client import Client
from qw.core.task import Claim
from qw.core.task.payload import Json
from qw.store import runs
from qw.store.connection import Connection
from tests.client.driving import Driver, begun, inbox, kept, step

TIDY: Any = [{"id": "tidy", "type": "noop", "with": {"status": "${{ run.status }}", "error": "${{ run.error }}"}}]


def failing(*steps: str) -> Any:
    def act(claim: Claim) -> Json:
        if claim.step in steps:
            raise ValueError("boom")
        return claim.payload

    return act


async def test_a_failure_that_is_borne_lets_the_run_go_on(conn: Connection) -> None:
    uses = {"with": {"was": "${{ steps.a.status }}", "error": "${{ steps.a.error }}"}}
    await kept(conn, step("a", continue_on_error=True), step("b", "a", **uses))
    id = await begun(conn)

    run = await Driver(conn=conn, act=failing("a")).finish(id)

    assert (run.status, run.output) == ("completed", {"b": {"was": "failed", "error": "boom"}})


@pytest.mark.parametrize(
    ("bad", "status", "error"),
    [((), "completed", None), (("a",), "failed", "step a: boom")],
)
async def test_finally_runs_last_and_knows_how_it_went(
    conn: Connection, bad: tuple[str, ...], status: str, error: str | None
) -> None:
    await kept(conn, step("a", compensate={"type": "noop"}), step("b", "a"), **{"finally": TIDY})
    id = await begun(conn)
    driver = Driver(conn=conn, act=failing(*bad))

    run = await driver.finish(id)

    assert (run.status, run.error) == (status, error)
    assert driver.done[-1] == "tidy"
    assert (await driver.steps(id))["tidy"].result == {"status": status, "error": error}


async def test_finally_runs_after_a_cancel_and_after_compensation(conn: Connection) -> None:
    await kept(conn, step("a", compensate={"type": "noop"}), step("b", "a"), **{"finally": TIDY})
    cancelled, failed = await begun(conn), await begun(conn)
    await runs.cancel(conn, cancelled)
    driver = Driver(conn=conn, act=failing("b"))

    await driver.finish(failed)

    run = await driver.run(cancelled)
    assert (run.status, run.detail) == ("cancelled", None)
    assert (await driver.steps(cancelled))["tidy"].result == {"status": "cancelled", "error": None}
    assert list(await driver.steps(failed)) == ["a", "b", "compensate:a", "tidy"]
    assert await inbox(conn) == 0


async def test_a_failure_in_finally_fails_the_run_but_undoes_nothing(conn: Connection) -> None:
    await kept(conn, step("a", compensate={"type": "noop"}), **{"finally": TIDY})
    id = await begun(conn)
    driver = Driver(conn=conn, act=failing("tidy"))

    run = await driver.finish(id)

    assert (run.status, run.error) == ("failed", "step tidy of finally: boom")
    assert driver.done == ["a", "tidy"]


@pytest.mark.parametrize("more", [{}, {"foreach": [1]}])
async def test_a_payload_too_large_to_be_stored_fails_its_step_only(conn: Connection, more: Any) -> None:
    twice: Any = {"with": {"x": "${{ [input.x, input.x] }}"}}
    await kept(conn, step("a", compensate={"type": "noop"}), step("b", "a", **twice, **more), input={"x": "string"})
    id = await begun(conn, given={"x": "é" * 300_000})
    driver = Driver(conn=conn)

    run = await driver.finish(id)

    assert "with: 1,200,013 bytes; at most 1,048,576 are stored" in str(run.error)
    assert (run.detail, driver.done) == ("compensated", ["a", "compensate:a"])


async def test_outputs_say_what_a_run_comes_to(conn: Connection) -> None:
    outputs: Any = {"n": "${{ steps.a.result.n + 1 }}", "text": "n is ${{ steps.a.result.n }}"}
    await kept(conn, step("a", **{"with": {"n": 1}}), step("b"), outputs=outputs)
    id = await begun(conn)

    run = await Driver(conn=conn).finish(id)

    assert run.output == {"n": 2, "text": "n is 1"}


WRONG_OUTPUTS: Any = {"n": "${{ steps.a.result.missing }}"}


async def test_an_error_in_outputs_fails_the_run_and_undoes_nothing(conn: Connection) -> None:
    undo: Any = step("undo", type="compensation")
    last: Any = step("last", **{"with": {"s": "${{ run.status }}", "e": "${{ run.error }}"}})
    late: Any = {"on_failure": [undo], "finally": [last]}
    await kept(conn, step("a", compensate={"type": "noop"}), outputs=WRONG_OUTPUTS, **late)
    id = await begun(conn)
    driver = Driver(conn=conn)

    run = await driver.finish(id)

    assert (run.status, run.detail) == ("failed", None)
    assert run.error == (
        "outputs: n: steps.a.result has no 'missing'; it is empty; "
        "every step has ended and nothing is undone: correct outputs and retry the run"
    )
    assert driver.done == ["a", "last"]
    assert (await driver.steps(id))["last"].result == {"s": "failed", "e": run.error}


async def test_a_retry_with_corrected_outputs_does_no_step_again(conn: Connection, url: str) -> None:
    await kept(conn, step("a", compensate={"type": "noop"}), outputs=WRONG_OUTPUTS)
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.finish(id)

    async with Client(url, size=1) as client:
        await client.runs.retry(id, document={"steps": [step("a")], "outputs": {"n": "${{ steps.a.status }}"}})
    run = await driver.finish(id)

    assert (run.status, run.error, run.output) == ("completed", None, {"n": "completed"})
    assert driver.done == ["a"]
