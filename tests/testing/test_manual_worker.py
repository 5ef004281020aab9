"""`qw_worker`, `qw_client` and the clock, in the suite of qw itself, where the plugin is registered too."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

import qw
from qw import Client, Context, Handlers, Retry, Snooze, testing
from qw.core.errors import Invalid, Misconfigured
from qw.core.schedule.document import parse_schedule
from qw.core.task.payload import Json
from qw.core.workflow import parse_workflow
from qw.store.connection import connect

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def qw_app() -> Handlers:
    app = Handlers()

    @app.task()
    async def double(n: int) -> int:
        return 2 * n

    @app.task()
    def triple(n: int) -> int:
        return 3 * n

    @app.task(max_retries=3)
    async def third_time(context: Context) -> int:
        if context.attempt < 3:
            raise Retry("not yet", after=HOUR)
        return context.attempt

    @app.task()
    async def forever(context: Context) -> None:
        raise Snooze(DAY * 30)

    @app.task()
    async def parent(context: Context) -> None:
        async with context.connection() as conn:
            qw_id = await (await conn.execute("select qw.enqueue('double', '{\"n\": 1}')")).fetchone()
            assert qw_id

    @app.task()
    async def onboard(context: Context, user: str) -> int:
        await context.sleep("trial", 14 * DAY)
        answer: int = await context.wait_signal("answer", int, timeout=3 * DAY)
        return await context.call(double, answer)

    return app


async def test_what_is_due_runs_and_what_it_enqueues_runs_too(
    qw_client: Client, qw_worker: testing.ManualWorker
) -> None:
    await qw_client.enqueue("parent")
    await qw_client.enqueue("triple", {"n": 1})

    ended = await qw_worker.run_until_empty()

    assert sorted((task.type, task.status, task.result) for task in ended) == [
        ("double", "completed", 2),
        ("parent", "completed", None),
        ("triple", "completed", 3),
    ]


async def test_nothing_runs_before_it_is_told_to(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    task = await qw_client.enqueue("double", {"n": 1})

    await asyncio.sleep(0.1)

    assert (await qw_client.tasks.get(task.id)).status == "pending"


async def test_a_retry_waits_for_its_time_and_the_clock_goes_there(
    qw_client: Client, qw_worker: testing.ManualWorker
) -> None:
    task = await qw_client.enqueue("third_time")
    started = time.monotonic()

    (first,) = await qw_worker.run_until_empty()
    early = await qw_worker.advance(HOUR / 2)
    second = await qw_worker.advance(HOUR)
    await qw_worker.run_until_empty(with_scheduled=True)

    assert (first.status, early) == ("retrying", [])
    assert [one.status for one in second] == ["retrying"]
    assert await qw_client.result(task.id, int) == 3
    assert time.monotonic() - started < 30


async def test_a_story_of_two_weeks_needs_no_waiting(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    task = await qw_client.enqueue("onboard", {"user": "Ada"})

    assert [one.status for one in await qw_worker.advance(13 * DAY)] == ["pending"]
    await qw_worker.advance(2 * DAY)
    await qw_client.tasks.signal(task.id, "answer", 21)
    await qw_worker.run_until_empty()

    assert await qw_client.result(task.id, int) == 42


async def test_a_delayed_task_runs_when_its_time_has_come(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    task = await qw_client.enqueue("double", {"n": 4}, delay=DAY)

    assert await qw_worker.run_until_empty() == []
    (ended,) = await qw_worker.run_until_empty(with_scheduled=True)

    assert (ended.id, ended.result) == (task.id, 8)


async def test_a_schedule_fires_at_each_of_its_ticks(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    await qw_client.schedules.add(parse_schedule("nightly", {"cron": "0 4 * * *", "type": "double", "with": {"n": 1}}))

    ended = await qw_worker.advance(3 * DAY)

    fires = await qw_client.schedules.fires("nightly")
    assert [task.type for task in ended] == ["double"] * 3
    assert [(fire.tick.hour, fire.tick.minute) for fire in fires] == [(4, 0)] * 3


async def test_a_run_of_a_workflow_goes_to_its_end(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    steps: list[Json] = [
        {"id": "one", "type": "double", "with": {"n": 2}},
        {"id": "rest", "type": "sleep", "with": {"for": "2d"}, "needs": ["one"]},
        {"id": "two", "type": "double", "with": {"n": "${{ steps.one.result }}"}, "needs": ["rest"]},
    ]
    await qw_client.workflows.save(parse_workflow("pair", {"steps": steps}))
    run = await qw_client.runs.start("pair")

    await qw_worker.run_until_empty(with_scheduled=True)

    assert (await qw_client.runs.get(run)).run.status == "completed"


async def test_all_sessions_of_the_database_see_the_moved_clock(
    qw_database: str, qw_client: Client, qw_worker: testing.ManualWorker
) -> None:
    await qw_worker.advance(14 * DAY)

    task = await qw_client.enqueue("double", {"n": 1}, delay=HOUR)
    with psycopg.connect(qw_database) as conn:
        id = qw.enqueue(conn, "double", {"n": 1}, delay=HOUR)
        row = conn.execute(
            "select now(), statement_timestamp(), clock_timestamp(), created_at from qw.tasks"
        ).fetchone()

    assert row is not None
    assert all(timedelta(days=13) < at - datetime.now(UTC) < timedelta(days=15) for at in row)
    assert await qw_worker.run_until_empty() == []
    assert {one.id for one in await qw_worker.advance(HOUR)} == {task.id, id}


async def test_a_task_that_never_ends_does_not_hold_the_test(
    qw_client: Client, qw_worker: testing.ManualWorker
) -> None:
    await qw_client.enqueue("forever")

    with pytest.raises(qw.TimedOut, match="still wait after 366 days"):
        await qw_worker.run_until_empty(with_scheduled=True)


async def test_a_task_without_a_handler_is_left_alone(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    task = await qw_client.enqueue("somebody_elses")

    assert await qw_worker.run_until_empty(with_scheduled=True) == []

    assert (await qw_client.tasks.get(task.id)).status == "pending"


async def test_a_cancel_request_is_heeded(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    task = await qw_client.enqueue("double", {"n": 1}, delay=DAY)

    await qw_client.tasks.cancel([task.id])
    await qw_worker.run_until_empty(with_scheduled=True)

    assert (await qw_client.tasks.get(task.id)).status == "cancelled"


async def test_a_limited_queue_is_emptied_too(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    await qw_client.queues.amend_limits("narrow", {"concurrency": 1})
    for n in range(5):
        await qw_client.enqueue("double", {"n": n}, queue="narrow")

    ended = await qw_worker.run_until_empty()

    assert sorted(task.result for task in ended if isinstance(task.result, int)) == [0, 2, 4, 6, 8]


async def test_the_clock_of_another_database_is_not_moved(url: str, qw_database: str) -> None:
    async with await connect(url, name="qw test") as conn:
        with pytest.raises(Misconfigured, match="was not made by"):
            await testing.move_clock(conn, DAY)
    async with await connect(qw_database, name="qw test") as conn:
        with pytest.raises(Invalid, match="only moves forward"):
            await testing.move_clock(conn, -DAY)


def test_a_fresh_database_takes_no_more_than_four_empty_ones(_qw_template: testing.TemplateDatabase) -> None:  # noqa: PT019
    """An empty one is the measure, since both are slowed by whatever else this machine does."""
    fresh, empty = [], []
    with psycopg.connect(_qw_template._url, autocommit=True) as conn:
        for _ in range(8):
            started = time.perf_counter()
            with _qw_template.clone() as url:
                fresh.append(time.perf_counter() - started)
                with psycopg.connect(url) as own:
                    assert own.execute("select count(*) from qw.task").fetchone() == (0,)
            started = time.perf_counter()
            conn.execute("create database empty template template0 strategy file_copy")
            empty.append(time.perf_counter() - started)
            conn.execute("drop database empty")

    assert min(fresh) < 4 * min(empty), (fresh, empty)


async def test_a_database_for_tests_can_be_emptied_and_no_other(qw_database: str, qw_client: Client, url: str) -> None:
    await qw_client.enqueue("noop", unique_key="one")
    await qw_client.queues.pause("mail", by="me")

    testing.empty(qw_database)

    testing.assert_enqueued(qw_client, count=0)
    assert await qw_client.queues.all() == []
    assert (await qw_client.enqueue("noop", unique_key="one")).is_new
    with pytest.raises(Misconfigured, match="this database is not emptied"):
        testing.empty(url)


async def test_a_template_can_be_made_where_an_event_loop_runs(qw_database: str) -> None:
    with testing.template(qw_database) as template, template.clone() as url:
        async with Client(url, check_tasks=False) as client:
            assert (await client.enqueue("noop")).is_new
