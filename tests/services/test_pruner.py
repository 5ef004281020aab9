"""What is past its retention goes, all of it and nothing else, in small statements that nobody waits for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from qw.clock import Clock
from qw.core.errors import Unavailable
from qw.core.ids import millis_of, uuid7
from qw.core.task import NewTask
from qw.core.task.ending import Failed
from qw.services.upkeep import pruner as module
from qw.services.upkeep.pruner import Pruner, Retention
from qw.store import tasks
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.ids import new_id
from tests.given import column, expect_whole, finished, new_task, stepped, value

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = ("task", "finished", "attempt", "task_log", "progress", "checkpoint", "task_signal", "run", "run_step",
       "run_item", "signal", "idempotency", "schedule_fire", "event", "rate")  # fmt: skip


@pytest.fixture
async def link(url: str) -> AsyncIterator[ReconnectingConnection]:
    link = ReconnectingConnection(url, name="qw test pruner")
    yield link
    await link.close()


def keeping(link: ReconnectingConnection, **others: timedelta) -> Pruner:
    return Pruner(link, Retention(**{"completed": DAY, "failed": DAY, "keys": DAY, "events": DAY, **others}))


async def pruned(pruner: Pruner) -> None:
    while await pruner.prune():
        pass


def old(**fields: Any) -> NewTask:
    """A task that was made long ago, as what finished long ago was."""
    return new_task(id=uuid7(millis_of(new_id()) - 10 * 86_400_000, os.urandom(10)), **fields)


async def aged(conn: Connection, hours: float) -> None:
    """Make all that is finished older."""
    by = timedelta(hours=hours)
    await conn.execute("update qw.finished set finished_at = finished_at - %s", [by])
    await conn.execute("update qw.run set finished_at = finished_at - %s", [by])


async def a_run(conn: Connection, status: str = "completed") -> UUID:
    """A run that is over, with a step, an item, a signal and a finished task."""
    id = new_id()
    await conn.execute("""
        insert into qw.run (id, workflow, workflow_id, version, status, input, finished_at)
        values (%s, 'w', %s, 1, %s, '{}', now())""", [id, id, status])  # fmt: skip
    await conn.execute("""
        insert into qw.run_step (run_id, step, type, status, finished_at, finished)
        values (%s, 's', 't', 'completed', now(), 1)""", [id])  # fmt: skip
    await conn.execute("insert into qw.run_item (run_id, step, item, value) values (%s, 's', 0, '1')", [id])
    await conn.execute("insert into qw.signal (run_id, name) values (%s, 'go')", [id])
    await finished(conn, None, new_task(run_id=id, step="s"))
    return id


@pytest.mark.parametrize(
    ("completed", "failed", "left"),
    [(DAY, 3 * DAY, ["cancelled", "failed"]), (3 * DAY, DAY, ["completed"]), (3 * DAY, 3 * DAY, None), (DAY, DAY, [])],
    ids=["completed is shorter", "failed is shorter", "both are longer", "both are shorter"],
)
async def test_each_retention_is_obeyed_by_itself(
    conn: Connection, link: ReconnectingConnection, completed: timedelta, failed: timedelta, left: list[str] | None
) -> None:
    await finished(conn, None, old())
    await finished(conn, Failed(error="x", final=True), old())
    [gone] = await finished(conn, Failed(error="x", final=True), old())
    await conn.execute("update qw.finished set status = 'cancelled' where task_id = %s", [gone])
    await conn.execute("insert into qw.tally (queue, failed, cancelled) values ('default', -1, 1)")
    for status in ("completed", "failed", "cancelled"):
        await a_run(conn, status)
    await aged(conn, 48)
    everything = ["cancelled", "completed", "failed"]

    await pruned(keeping(link, completed=completed, failed=failed))

    of_tasks = "select status from qw.tasks where run_id is null order by 1"
    assert await column(conn, of_tasks) == (everything if left is None else left)
    assert await column(conn, "select status from qw.run order by 1") == (everything if left is None else left)
    await expect_whole(conn)


async def test_the_pruner_folds_and_then_deletes_what_is_old(conn: Connection, link: ReconnectingConnection) -> None:
    pruner = Pruner(link, Retention(completed=HOUR, failed=2 * HOUR, keys=HOUR, events=HOUR))
    [completed] = await finished(conn, None, old())
    [failed] = await finished(conn, Failed(error="x", final=True), old())
    await conn.execute("update qw.finished set finished_at = now() - interval '90 min'")
    await conn.execute("insert into qw.idempotency values ('old', %s, '', now() - interval '90 min')", [new_id()])

    assert await pruner.step() is False
    assert await value(conn, "select count(*) from qw.tally") == 1
    assert await value(conn, "select count(*) from qw.finished") == 2
    pruner._pruned_at -= 3600
    await pruner.step()

    assert await column(conn, "select task_id from qw.finished") == [failed]
    assert await tasks.get(conn, [completed]) == []
    assert await value(conn, "select count(*) from qw.idempotency") == 0
    await expect_whole(conn)


async def test_nothing_is_left_of_what_is_past_its_retention(conn: Connection, link: ReconnectingConnection) -> None:
    [task] = await finished(conn, None, old())
    run = await a_run(conn)
    of_run = await value(conn, "select id from qw.task where run_id = %s", run)
    [lost] = await finished(conn, None, old(run_id=new_id()))  # its run is gone
    for id in (task, of_run, lost):
        await tasks.write_logs(conn, [(id, 1, "INFO", "line", None)])
        await tasks.write_progress(conn, id, 0.5, "half")
        await stepped(conn, id, "step", 1)
        await conn.execute("insert into qw.task_signal (task_id, name) values (%s, 's')", [id])
        await conn.execute("insert into qw.attempt (task_id, fence, outcome, attempt) values (%s, 1, 'error', 1)", [id])
    await conn.execute("insert into qw.idempotency values ('old', %s, '', now() - interval '2 days')", [task])
    await conn.execute("""
        insert into qw.schedule_fire (schedule_id, tick, task_id, decided_at)
        values (%s, now(), %s, now() - interval '1 year')""", [new_id(), task])  # fmt: skip
    await conn.execute("insert into qw.rate values ('q', false, '', now() - interval '1 second')")
    await conn.execute("""
        insert into qw.event (event, type, at, kept_at, body)
        values (qw.new_id(), 'x', now(), now() - interval '2 days', '{}')""")  # fmt: skip
    await aged(conn, 48)

    await pruned(keeping(link))

    assert {table: await value(conn, f"select count(*) from qw.{table}") for table in ALL} == dict.fromkeys(ALL, 0)
    await expect_whole(conn)


async def test_what_is_young_stays(conn: Connection, link: ReconnectingConnection) -> None:
    await finished(conn, None, old())
    await finished(conn, Failed(error="x", final=True), old())
    await a_run(conn)
    await conn.execute("insert into qw.idempotency values ('young', %s, '', now() - interval '23 hours')", [new_id()])
    before = {table: await value(conn, f"select count(*) from qw.{table}") for table in ALL}
    await aged(conn, 23)

    await pruned(keeping(link))

    assert {table: await value(conn, f"select count(*) from qw.{table}") for table in ALL} == before


async def test_what_was_made_long_ago_and_finished_lately_stays(conn: Connection, link: ReconnectingConnection) -> None:
    await finished(conn, None, old(), old())
    await finished(conn, Failed(error="x", final=True), old())

    await pruned(keeping(link))

    assert await value(conn, "select count(*) from qw.finished") == 3


async def test_a_task_whose_id_is_no_time_goes_too(conn: Connection, link: ReconnectingConnection) -> None:
    ids = [UUID(f"{first}{str(uuid4())[1:]}") for first in "059f"]
    await finished(conn, None, *(new_task(id=id) for id in ids))
    await pruned(keeping(link))
    assert await value(conn, "select count(*) from qw.finished") == 4
    await aged(conn, 48)

    await pruned(keeping(link))

    assert await value(conn, "select count(*) from qw.finished") == 0


async def test_the_walk_goes_on_over_what_stays(conn: Connection, link: ReconnectingConnection) -> None:
    kept = await finished(conn, None, *(old() for _ in range(25)))
    await finished(conn, None, *(old() for _ in range(25)))
    await aged(conn, 48)
    await conn.execute("update qw.finished set finished_at = now() where task_id = any(%s)", [kept])
    pruner = keeping(link)
    pruner.batch = 10

    await pruned(pruner)

    assert await column(conn, "select task_id from qw.finished order by 1") == sorted(kept)


async def test_a_clock_that_was_set_forward_makes_nothing_old(
    conn: Connection, link: ReconnectingConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finished(conn, None, old())
    await a_run(conn)
    await aged(conn, 48)  # what the database says once its clock was set forward by that much
    clock = Clock()
    clock.measured(0.0, 0.0, 1_000_000.0)
    clock.measured(10.0, 10.0, 1_000_010.0 + 47 * 3600)
    monkeypatch.setattr(module, "clock", clock)

    await pruned(keeping(link))
    assert await value(conn, "select count(*) from qw.finished") == 2
    await aged(conn, 24)
    await pruned(keeping(link))
    assert await value(conn, "select count(*) from qw.finished") == 0


async def test_a_task_with_a_long_log_goes_in_small_statements(conn: Connection, link: ReconnectingConnection) -> None:
    [id] = await finished(conn, None, old())
    await conn.execute(
        "insert into qw.task_log (task_id, attempt, level, message)"
        " select %s, 1, 'INFO', 'line' from generate_series(1, 350)", [id])  # fmt: skip
    await aged(conn, 48)
    pruner = keeping(link)
    pruner.batch = 100

    assert await tasks.prune_history(conn, [id], limit=100)
    assert await value(conn, "select count(*) from qw.task_log") == 250
    await pruned(pruner)

    assert await value(conn, "select count(*) from qw.task_log") == 0


async def test_what_is_locked_is_passed_over_and_a_slow_statement_makes_the_next_smaller(
    conn: Connection, other: Connection, link: ReconnectingConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.05)
    held, free = await finished(conn, None, old(), old())
    await tasks.write_logs(conn, [(free, 1, "INFO", "line", None)])
    await aged(conn, 48)
    pruner = keeping(link)

    async with other.transaction():
        await other.execute("select 1 from qw.finished where task_id = %s for update", [held])
        await pruner.prune()
        assert await column(conn, "select task_id from qw.finished") == [held]
    async with other.transaction():
        await other.execute("lock table qw.task_log")
        with pytest.raises(Unavailable):
            await pruner.prune()
    assert pruner.batch < module.BATCH

    await pruned(pruner)
    assert await value(conn, "select count(*) from qw.finished") == 0


def test_what_follows_the_first_measurement_is_what_the_clock_was_set_by() -> None:
    clock, steps = Clock(), []
    for asked, answered, database in ((0.0, 0.2, 100.1), (10.0, 10.2, 110.1), (20.0, 20.2, 720.1), (30.0, 45.0, 30.0)):
        clock.measured(asked, answered, database)
        steps.append(round(clock.stepped, 6))

    assert steps == [0.0, 0.0, 600.0, 600.0]  # the last answer took too long to say anything


async def test_versions_that_nothing_refers_to_go_except_the_last_ones(
    conn: Connection, link: ReconnectingConnection
) -> None:
    used, other = new_id(), new_id()
    for workflow in (used, other):
        await conn.execute(
            """
            insert into qw.workflow_version (workflow_id, digest, document, created_at)
            select %s, n, '{}', now() - interval '2 days' from generate_series(1, 20) n order by n""",
            [workflow],
        )
    ids = await column(conn, "select id from qw.workflow_version where workflow_id = %s order by id", used)
    pinned, active, removed, young = ids[:4]
    await a_run(conn)
    await conn.execute("update qw.run set version = %s", [pinned])
    await conn.execute("insert into qw.workflow (id, name, version) values (%s, 'w', %s)", [used, active])
    await conn.execute(
        "insert into qw.removed_workflow (name, workflow_id, version) values ('x', %s, %s)", [used, removed]
    )
    await conn.execute("update qw.workflow_version set created_at = now() where id = %s", [young])

    await pruned(keeping(link))

    kept = "select id from qw.workflow_version where workflow_id = %s order by id"
    assert await column(conn, kept, used) == [*ids[:4], *ids[-10:]]
    assert len(await column(conn, kept, other)) == 10


async def test_of_what_was_applied_long_ago_the_last_hundred_are_kept(
    conn: Connection, link: ReconnectingConnection
) -> None:
    await conn.execute("""
        insert into qw.applied (owner, by, at, changes)
        select 'o', 'b', now() - interval '2 days', '[]' from generate_series(1, 150)""")

    await pruned(keeping(link))
    assert await value(conn, "select count(*) from qw.applied") == 100
    await conn.execute("update qw.applied set at = now()")
    await conn.execute("insert into qw.applied (owner, by, changes) select 'o', 'b', '[]' from generate_series(1, 10)")
    await pruned(keeping(link))

    assert await value(conn, "select count(*) from qw.applied") == 110


async def test_minutes_go_from_the_history_long_before_hours(conn: Connection, link: ReconnectingConnection) -> None:
    for table, columns, values in (
        ("history", "name, result, counts, total", "'n', '', '{1}', 0"),
        ("queue_sample", "waiting, running, enqueued", "1, 1, 1"),
    ):
        await conn.execute(f"""
            insert into qw.{table} (span, at, queue, {columns})
            select span, now() - days * interval '1 day', 'q', {values}
              from unnest('{{minute,hour}}'::text[]) span, unnest('{{0,1,3,80,100}}'::integer[]) days""")

    await pruned(keeping(link))

    for table in ("history", "queue_sample"):
        for span, days in (("minute", [1, 0]), ("hour", [80, 3, 1, 0])):
            found = await column(
                conn, f"select extract(day from now() - at)::integer from qw.{table} where span = '{span}' order by at"
            )
            assert found == days
