"""`foreach` and `matrix`, on a real database."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from qw.core.task import Claim
from qw.core.task.payload import Json
from qw.store import runs
from qw.store.connection import Connection
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import column, expect_whole, value


def over(items: Json, **more: Any) -> Any:
    return step("each", foreach=items, **{"with": {"n": "${{ item }}", "at": "${{ index }}"}, **more})


def double(claim: Claim) -> Json:
    n = claim.payload.get("n")
    if n == 13:
        raise ValueError("unlucky")
    return n * 2 if isinstance(n, int) else claim.payload


async def test_the_results_of_a_foreach_are_a_list_in_order(conn: Connection) -> None:
    await kept(
        conn,
        step("make", **{"with": {"list": [5, 6, 7]}}),
        over("${{ steps.make.result.list }}", needs="make"),
        step("sum", "each", **{"with": {"n": "${{ sum(steps.each.result) }}"}}),
    )
    id = await begun(conn)
    driver = Driver(conn=conn, act=lambda claim: claim.payload if claim.step == "make" else double(claim))

    run = await driver.finish(id)

    assert (await driver.steps(id))["each"].result == [10, 12, 14]
    assert run.output == {"sum": 72}
    assert sorted(driver.done[1:4]) == ["each[0]", "each[1]", "each[2]"]
    await expect_whole(conn)
    assert await inbox(conn) == 0


async def test_an_item_and_its_index_are_in_scope(conn: Connection) -> None:
    await kept(conn, over([{"x": 1}, "b"], **{"with": {"item": "${{ item }}", "at": "${{ index }}"}}))
    id = await begun(conn)

    await Driver(conn=conn).finish(id)

    payloads = await column(conn, "select payload from qw.task order by payload ->> 'at'")
    assert payloads == [{"item": {"x": 1}, "at": 0}, {"item": "b", "at": 1}]


async def test_no_more_than_max_parallel_items_run_at_a_time(conn: Connection) -> None:
    await kept(conn, over(list(range(10)), max_parallel=3))
    id = await begun(conn)
    driver = Driver(conn=conn, act=double)

    await driver.finish(id)

    assert driver.busy == 3
    assert (await driver.steps(id))["each"].result == [n * 2 for n in range(10)]


async def test_a_foreach_over_nothing_is_completed_with_an_empty_list(conn: Connection) -> None:
    await kept(conn, over([]), step("after", "each", **{"with": {"n": "${{ len(steps.each.result) }}"}}))
    id = await begun(conn)

    run = await Driver(conn=conn).finish(id)

    assert (run.status, run.output) == ("completed", {"after": {"n": 0}})


async def test_an_item_that_fails_stops_the_foreach_and_fails_the_run(conn: Connection) -> None:
    await kept(conn, over([1, 13, 2, 3], max_parallel=2), step("after", "each"))
    id = await begun(conn)
    driver = Driver(conn=conn, act=double)

    run = await driver.finish(id)

    assert sorted(driver.done) == ["each[0]", "each[1]"]
    assert (run.status, run.error) == ("failed", "step each: 1 of 4 items failed: item 1: unlucky")
    assert await driver.statuses(id) == {"each": "failed", "after": "skipped"}


async def test_with_continue_on_error_all_items_run_and_a_failed_one_has_no_result(conn: Connection) -> None:
    each = over([1, 13, 2], continue_on_error=True)
    await kept(conn, each, step("after", "each", **{"with": {"got": "${{ steps.each.result }}"}}))
    id = await begun(conn)

    run = await Driver(conn=conn, act=double).finish(id)

    assert (run.status, run.output) == ("completed", {"after": {"got": [2, None, 4]}})


async def test_without_fail_fast_all_items_run_before_the_step_fails(conn: Connection) -> None:
    each = over([1, 13, 2], fail_fast=False, max_parallel=1)
    await kept(conn, each, step("after", "each"))
    id = await begun(conn)
    driver = Driver(conn=conn, act=double)

    run = await driver.finish(id)

    assert sorted(driver.done) == ["each[0]", "each[1]", "each[2]"]
    assert (run.status, run.error) == ("failed", "step each: 1 of 3 items failed: item 1: unlucky")
    assert await driver.statuses(id) == {"each": "failed", "after": "skipped"}


async def test_an_item_without_a_payload_fails_and_the_others_run(conn: Connection) -> None:
    each = over([{"x": 1}, {"y": 2}], **{"with": {"x": "${{ item.x }}"}}, continue_on_error=True)
    await kept(conn, each)
    id = await begun(conn)
    driver = Driver(conn=conn)

    run = await driver.finish(id)

    assert run.status == "completed"
    failed = (await driver.steps(id))["each"]
    assert failed.error == "1 of 2 items failed: item 1: x: item has no 'x'; it has y"
    assert failed.result == [{"x": 1}, None]


@pytest.mark.parametrize(
    ("items", "error"), [("text", "must be a list, not a string"), ([0] * 10_001, "more than 10,000 items")]
)
async def test_what_is_no_list_of_at_most_ten_thousand_fails_the_step(
    conn: Connection, items: Json, error: str
) -> None:
    await kept(conn, over("${{ input.items }}"), input={"items": "any"})

    id = await begun(conn, given={"items": items})

    run = await Driver(conn=conn).run(id)
    assert (run.status, run.error) == ("failed", f"step each: foreach: {error}")


async def test_a_matrix_goes_over_all_combinations(conn: Connection) -> None:
    matrix = {"os": ["linux", "mac"], "n": "${{ input.n }}"}
    each = step("each", matrix=matrix, **{"with": {"is": "${{ item.os }} ${{ item.n }}"}})
    await kept(conn, each, input={"n": "array"})
    id = await begun(conn, given={"n": [1, 2]})

    run = await Driver(conn=conn, act=lambda claim: claim.payload["is"]).finish(id)

    assert run.output == {"each": ["linux 1", "mac 1", "linux 2", "mac 2"]}


async def test_a_cancelled_run_stops_the_items_that_run_and_starts_no_more(conn: Connection) -> None:
    await kept(conn, over(list(range(5)), max_parallel=2))
    id = await begun(conn)
    driver = Driver(conn=conn)

    await runs.cancel(conn, id)
    await driver.advance()

    assert (await driver.run(id)).status == "cancelled"
    assert await column(conn, "select status from qw.finished") == ["cancelled", "cancelled"]
    assert await driver.statuses(id) == {"each": "cancelled"}


async def test_a_foreach_that_did_something_is_undone_as_a_whole(conn: Connection) -> None:
    undo = {"type": "noop", "with": {"undo": "${{ steps.each.result }}"}}
    await kept(conn, over([1, 13], compensate=undo))
    id = await begun(conn)
    driver = Driver(conn=conn, act=double)

    run = await driver.finish(id)

    assert (run.status, run.detail) == ("failed", "compensated")
    assert (await driver.steps(id))["compensate:each"].result == {"undo": [2, None]}


async def test_results_that_are_too_large_together_fail_the_step_only(conn: Connection) -> None:
    await kept(conn, over(list(range(6))))
    id = await begun(conn)

    run = await Driver(conn=conn, act=lambda claim: "x" * 200_000).finish(id)

    assert run.error == "step each: the results of its 6 items have 1200012 bytes; at most 1048576 are kept"


async def test_ten_thousand_items_stay_flat_in_memory(conn: Connection) -> None:
    await kept(conn, over("${{ input.items }}"), input={"items": "array"})
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    id = await begun(conn, given={"items": list(range(10_000))})

    run = await Driver(conn=conn, act=lambda claim: claim.payload["n"]).finish(id)

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert run.output == {"each": list(range(10_000))}
    assert grown < 40_000, f"{grown} KiB"
    assert time.monotonic() - started < 60
    assert await value(conn, "select count(*) from qw.task") == 10_000
