from __future__ import annotations

from typing import Any

import psycopg
import pytest

import qw
from qw import Context, testing
from qw.core.errors import Invalid
from qw.testing import assert_enqueued


async def charge(context: Context) -> Any:
    await context.log("charging")
    await context.progress(0.5, "half")

    async def pay() -> dict[str, int]:
        return {"paid": 5}

    return await context.step("pay", pay)


async def test_a_context_keeps_what_the_handler_did() -> None:
    context = testing.context(payload={"n": 1}, attempt=2, headers={"a": "b"})

    result = await charge(context)

    assert result == {"paid": 5}
    assert context.logs == [("INFO", "charging")]
    assert context.reports == [(0.5, "half")]
    assert context.steps == {"pay": {"paid": 5}}
    assert (context.attempt, context.headers, context.payload) == (2, {"a": "b"}, {"n": 1})


async def test_a_step_that_was_completed_before_is_not_run() -> None:
    assert await charge(testing.context(steps={"pay": {"paid": 7}})) == {"paid": 7}


async def test_a_result_that_no_step_can_store_is_refused_as_by_the_worker() -> None:
    async def much() -> str:
        return "x" * 300_000

    with pytest.raises(Invalid):
        await testing.context().step("much", much)


async def test_progress_out_of_range_is_refused() -> None:
    with pytest.raises(Invalid, match="from 0 to 1"):
        await testing.context().progress(2)


def test_a_blocking_context_needs_no_await(url: str) -> None:
    with psycopg.connect(url) as conn:
        context = testing.blocking_context(conn=conn)

        context.log("one", level="WARNING")
        context.progress(1)
        with context.connection() as given:
            given.execute("select 1")

        assert context.step("one", lambda: 1) == 1
    assert context.logs == [("WARNING", "one")]
    assert context.steps == {"one": 1}


async def test_a_context_without_a_connection_says_how_to_give_it_one() -> None:
    with pytest.raises(Invalid, match="conn="):
        async with testing.context().connection():
            pass


@pytest.mark.usefixtures("unchecked")
def test_an_open_transaction_sees_its_own_tasks(url: str) -> None:
    with psycopg.connect(url) as conn:
        qw.enqueue(conn, "mail", {"to": {"name": "Ada", "id": 1}, "n": 2}, queue="post", unique_key="k")

        (found,) = assert_enqueued(conn, type="mail", payload={"to": {"name": "Ada"}}, queue="post", unique_key="k")
        assert_enqueued(url, type="mail", count=0)
        conn.rollback()

    assert found.payload == {"to": {"name": "Ada", "id": 1}, "n": 2}
    assert_enqueued(url, count=0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "asked",
    [
        {"type": "post"},
        {"payload": {"to": {"name": "Bob"}}},
        {"payload": {"cc": None}},
        {"queue": "post"},
        {"status": "completed"},
        {"priority": 1},
        {"unique_key": "k"},
        {"count": 2},
        {"type": "mail", "count": 0},
    ],
)
def test_each_difference_fails(asked: dict[str, Any], url: str) -> None:
    with psycopg.connect(url) as conn:
        qw.enqueue(conn, "mail", {"to": {"name": "Ada"}})

    with pytest.raises(AssertionError, match=r"found \d\nenqueued:\n  mail"):
        assert_enqueued(url, **asked)
