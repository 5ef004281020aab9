"""Sleeps, signals, approvals and a run's own time, on a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from psycopg.errors import UndefinedFunction

from qw.client import Client
from qw.core.errors import Conflict, Invalid, NotFound
from qw.engine.advance import _not_before
from qw.store import runs
from qw.store.advances import InboxEntry
from qw.store.connection import Connection, translated
from qw.store.ids import new_id
from tests.client.driving import Driver, begun, inbox, kept, step
from tests.given import column, value

AFTER = step("after", "wait", **{"with": {"got": "${{ steps.wait.result }}"}})


def wait(type: Any = "wait_signal", **more: Any) -> Any:
    return {"id": "wait", "type": type, **more}


async def test_a_sleep_lasts_as_long_as_it_says_and_costs_no_task(conn: Connection) -> None:
    await kept(conn, step("a"), wait("sleep", needs="a", **{"with": {"for": "2h"}}), AFTER)
    id = await begun(conn)
    driver = Driver(conn=conn)

    await driver.settle()
    await driver.pass_time(timedelta(hours=1))
    await driver.settle()
    assert await driver.statuses(id) == {"a": "completed", "wait": "running"}
    await driver.pass_time(timedelta(hours=1, seconds=1))
    run = await driver.finish(id)

    assert run.status == "completed"
    assert driver.done == ["a", "after"]


async def test_a_sleep_until_a_time_that_has_passed_is_over_at_once(conn: Connection) -> None:
    await kept(conn, wait("sleep", **{"with": {"until": "${{ input.at }}"}}), input={"at": "date"})

    id = await begun(conn, given={"at": "2020-01-01T00:00:00Z"})

    assert (await Driver(conn=conn).run(id)).status == "completed"


async def test_a_sleep_of_nonsense_fails_the_step(conn: Connection) -> None:
    await kept(conn, wait("sleep", **{"with": {"for": "${{ input.how }}"}}), input={"how": "any"})

    id = await begun(conn, given={"how": "soon"})

    assert "'soon' is not a duration" in str((await Driver(conn=conn).run(id)).error)


async def test_a_signal_ends_the_wait_and_its_payload_is_the_result(conn: Connection) -> None:
    await kept(conn, wait(), AFTER)
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await conn.execute("select qw.signal(%s, 'wait', '{\"paid\": 7}')", (id,))
    run = await driver.finish(id)

    assert run.output == {"after": {"got": {"paid": 7}}}
    assert [(s.name, s.step) for s in await runs.signals(conn, id)] == [("wait", "wait")]


async def test_a_signal_that_comes_before_its_wait_is_kept(conn: Connection) -> None:
    await kept(conn, step("a"), wait(needs="a", **{"with": {"signal": "paid"}}), AFTER)
    id = await begun(conn)
    await runs.signal(conn, id, "paid", 1, sent_by="me")

    run = await Driver(conn=conn).finish(id)

    assert run.output == {"after": {"got": 1}}


async def test_two_signals_of_one_name_go_to_two_waits_in_order(conn: Connection) -> None:
    first: Any = {"id": "a", "type": "wait_signal", "with": {"signal": "s"}}
    second: Any = {**first, "id": "b", "needs": "a"}
    await kept(conn, first, second, step("c", "b", **{"with": {"x": "${{ [steps.a.result, steps.b.result] }}"}}))
    id = await begun(conn)

    for n in (1, 2, 3):
        await runs.signal(conn, id, "s", n, sent_by=None)
    run = await Driver(conn=conn).finish(id)

    assert run.output == {"c": {"x": [1, 2]}}
    assert [s.step for s in await runs.signals(conn, id)] == ["a", "b", None]


async def test_a_wait_for_several_signals_takes_so_many_and_no_more(conn: Connection) -> None:
    await kept(conn, wait(**{"with": {"signal": "s", "count": "${{ 1 + 1 }}"}}), AFTER)
    id = await begun(conn)

    for n in (1, 2, 3):
        await runs.signal(conn, id, "s", n, sent_by=None)
    run = await Driver(conn=conn).finish(id)

    assert run.output == {"after": {"got": [1, 2]}}
    assert [s.step for s in await runs.signals(conn, id)] == ["wait", "wait", None]


async def test_a_wait_for_several_signals_says_how_many_came_in_time(conn: Connection) -> None:
    await kept(conn, wait(timeout="1h", **{"with": {"signal": "s", "count": 3}}))
    id = await begun(conn)
    await runs.signal(conn, id, "s", 1, sent_by=None)
    driver = Driver(conn=conn)
    await driver.settle()

    await driver.pass_time(timedelta(hours=2))
    run = await driver.finish(id)

    assert run.error == "step wait: 1 of 3 signals 's' came within 1h"


async def test_a_wait_that_nobody_ends_fails_when_its_time_is_over(conn: Connection) -> None:
    await kept(conn, wait(timeout="1h"), AFTER, on_failure=[{"id": "tell", "type": "noop"}])
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await driver.pass_time(timedelta(hours=2))
    run = await driver.finish(id)

    assert (run.status, run.error) == ("failed", "step wait: no signal 'wait' came within 1h")
    assert driver.done == ["tell"]


async def test_a_signal_in_time_leaves_no_timer_that_matters(conn: Connection) -> None:
    await kept(conn, wait(timeout="1h"), AFTER)
    id = await begun(conn)
    await runs.signal(conn, id, "wait", None, sent_by=None)

    run = await Driver(conn=conn).finish(id)

    assert run.status == "completed"
    assert await inbox(conn) == 0


@pytest.mark.parametrize(
    ("name", "payload", "error"),
    [
        ("approval:wait", None, "is not a name of a signal"),
        ("", None, "is not a name of a signal"),
        ("s", "x" * 300_000, "a signal has at most 262144"),
    ],
)
async def test_a_signal_that_cannot_be_kept_is_refused(conn: Connection, name: str, payload: Any, error: str) -> None:
    await kept(conn, wait())
    id = await begun(conn)

    with pytest.raises(Invalid, match=error), translated():
        await runs.signal(conn, id, name, payload, sent_by=None)


async def test_a_run_that_is_over_or_not_there_takes_no_signal(conn: Connection) -> None:
    await kept(conn, step("a"))
    id = await begun(conn)
    await Driver(conn=conn).finish(id)

    with pytest.raises(Conflict, match="is completed; only a run in progress takes signals"), translated():
        await runs.signal(conn, id, "s", None, sent_by=None)
    with pytest.raises(NotFound, match="does not exist"), translated():
        await runs.signal(conn, new_id(), "s", None, sent_by=None)


async def test_a_failure_elsewhere_and_a_cancel_end_a_wait(conn: Connection) -> None:
    await kept(conn, wait(), {"id": "nap", "type": "sleep", "with": {"for": "9d"}}, step("bad"))
    failing, cancelled = await begun(conn), await begun(conn)

    await runs.cancel(conn, cancelled)
    driver = Driver(conn=conn, act=lambda claim: 1 / 0)
    run = await driver.finish(failing)

    assert run.error == "step bad: division by zero"
    assert await driver.statuses(failing) == {"wait": "cancelled", "nap": "cancelled", "bad": "failed"}
    assert (await driver.run(cancelled)).status == "cancelled"


async def test_a_run_that_takes_too_long_is_stopped_and_undone(conn: Connection) -> None:
    undo = {"compensate": {"type": "noop", "with": {"undo": "${{ steps.a.result }}"}}}
    await kept(conn, step("a", **undo), wait(needs="a"), timeout="1h")
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()

    await driver.pass_time(timedelta(hours=2))
    run = await driver.finish(id)

    assert (run.status, run.detail, run.error) == ("failed", "compensated", "the run took longer than 1h")
    assert driver.done == ["a", "compensate:a"]
    assert await inbox(conn) == 0


async def test_a_run_that_takes_too_long_asks_its_tasks_to_stop(conn: Connection) -> None:
    await kept(conn, step("a"), step("b", "a"), timeout="1h")
    id = await begun(conn)
    driver = Driver(conn=conn)

    await driver.pass_time(timedelta(hours=2))
    await driver.advance()

    run = await driver.run(id)
    assert (run.status, run.error) == ("failed", "the run took longer than 1h")
    assert await driver.statuses(id) == {"a": "cancelled", "b": "skipped"}
    assert (await driver.steps(id))["a"].error == "the run took longer than 1h"


async def test_a_run_in_time_forgets_its_timer(conn: Connection) -> None:
    await kept(conn, step("a"), timeout="1h")
    id = await begun(conn)

    run = await Driver(conn=conn).finish(id)

    assert run.status == "completed"
    assert await inbox(conn) == 0


async def test_the_tick_sees_a_timer_only_when_it_is_due(conn: Connection) -> None:
    await kept(conn, wait("sleep", **{"with": {"for": "1h"}}))
    await begun(conn)
    due = "select exists (select 1 from qw.advance a where a.at <= now())"

    assert await value(conn, due) is False
    await Driver(conn=conn).pass_time(timedelta(hours=2))
    assert await value(conn, due) is True
    assert await column(conn, "select status from qw.run") == ["running"]


async def test_a_run_that_sleeps_says_so_and_nothing_else(conn: Connection, url: str) -> None:
    await kept(conn, wait("sleep", **{"with": {"for": "1h"}}))
    id = await begun(conn)

    async with Client(url, size=2) as client:
        assert [reason.code for reason in await client.tasks.why(id)] == ["sleeps"]


async def test_sql_names_the_calling_role_as_the_sender_of_a_signal(conn: Connection) -> None:
    await kept(conn, wait(), AFTER)
    id = await begun(conn)

    await conn.execute("select qw.signal(%s, 'wait')", (id,))

    assert [one.sent_by for one in await runs.signals(conn, id)] == [conn.info.user]
    with pytest.raises(UndefinedFunction):
        await conn.execute("select qw.signal(%s, 'wait', null, 'the boss')", (id,))


async def test_a_timer_that_was_found_due_counts_though_the_clock_was_set_back(conn: Connection) -> None:
    await kept(conn, wait("sleep", **{"with": {"for": "2h"}}), AFTER)
    id = await begun(conn)
    driver = Driver(conn=conn)
    await driver.settle()
    (run,) = await runs.get(conn, [id])
    (due,) = await column(conn, "select at from qw.advance where run_id = %s", id)

    seen = _not_before(run, [InboxEntry(id, None), InboxEntry(id, None, due), InboxEntry(new_id(), None, due)])

    assert (run.read_at < due, seen.read_at) == (True, due)
    assert _not_before(run, [InboxEntry(id, None)]) == run
