from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.client import Client
from qw.core.errors import Conflict, Invalid, NotFound
from qw.core.schedule.document import parse_schedule
from qw.core.schedule.fire_decision import SkipReason
from qw.core.task import Lane
from qw.core.workflow import parse_workflow
from qw.engine import fire as firing
from qw.engine.fire import fire_due
from qw.services.upkeep.scheduler import Scheduler
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.fires import StoredFire, of_schedule
from tests.given import column, expect_whole, status, value

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
WAITS = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())"


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, size=4) as opened:
        yield opened


class Daemons:
    """Schedulers of several daemons on one database, and the lanes that they woke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._links: list[ReconnectingConnection] = []
        self.woken: list[Lane] = []

    def start(self) -> Scheduler:
        self._links.append(ReconnectingConnection(self._url, name="qw test scheduler"))
        return Scheduler(self._links[-1], self.woken.extend)

    async def stop(self) -> None:
        for link in self._links:
            await link.close()


@pytest.fixture
async def daemons(url: str) -> AsyncIterator[Daemons]:
    made = Daemons(url)
    yield made
    await made.stop()


async def add(client: Client, name: str = "s", *, clock: datetime = NOW, **document: Any) -> UUID:
    """A schedule for every minute, unless *document* says otherwise."""
    when = {} if document.keys() & {"every", "at", "cron"} else {"cron": "* * * * *"}
    target = {} if document.keys() & {"workflow", "run", "type"} else {"type": "noop"}
    if "payload" in document:
        document["with"] = document.pop("payload")
    id, _ = await client.schedules.add(parse_schedule(name, {**when, **target, **document}), clock=clock)
    return id


async def fires(client: Client, name: str = "s") -> list[StoredFire]:
    """What became of its ticks, the first one first."""
    return (await client.schedules.fires(name, limit=1000))[::-1]


def told(found: list[StoredFire]) -> list[str]:
    return [f"{fire.tick:%H:%M} {fire.reason or 'fired'}" for fire in found]


async def ticks_of_tasks(conn: Connection) -> list[str]:
    return await column(
        conn, "select to_char((headers->>'tick')::timestamptz at time zone 'UTC', 'HH24:MI') from qw.task order by 1"
    )


# -- firing


async def test_a_due_schedule_makes_a_task_that_knows_its_tick(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    await add(client, type="http_request", payload={"url": "http://x"}, queue="web", priority=2, max_retries=7)
    scheduler = daemons.start()

    assert await scheduler.step(clock=NOW + MINUTE) is False

    (fire,) = await fires(client)
    assert fire.task_id is not None
    task = await client.tasks.get(fire.task_id)
    assert (task.type, task.payload, task.queue, task.priority, task.max_retries) == (
        "http_request", {"url": "http://x"}, "web", 2, 7,
    )  # fmt: skip
    assert task.headers == {"schedule": "s", "tick": "2026-11-24T12:01:00+00:00"}
    assert daemons.woken == [Lane("web", 2)]
    await expect_whole(conn)


async def test_nothing_happens_before_a_tick(client: Client, daemons: Daemons) -> None:
    await add(client)

    await daemons.start().step(clock=NOW + MINUTE - timedelta(microseconds=1))

    assert await fires(client) == []


async def test_a_due_schedule_starts_a_run_with_its_first_tasks(client: Client, daemons: Daemons) -> None:
    document: Any = {"input": {"name": "string", "n": {"default": 3}}, "steps": [{"id": "a", "type": "noop"}]}
    await client.workflows.save(parse_workflow("hello", document))
    await add(client, workflow="hello", payload={"name": "zoe"})

    await daemons.start().step(clock=NOW + MINUTE)

    (fire,) = await fires(client)
    assert fire.run_id is not None
    run = await client.runs.get(fire.run_id)
    assert (run.run.workflow, run.run.input) == ("hello", {"name": "zoe", "n": 3})
    assert [step.step_id for step in run.steps] == ["a"]


async def test_a_run_that_cannot_start_is_a_skip_that_says_why(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    await client.workflows.save(parse_workflow("hello", {"steps": [{"id": "a", "type": "noop"}]}))
    await add(client, "broken", workflow="hello")
    await add(client, "whole")
    await conn.execute("delete from qw.workflow")

    await daemons.start().step(clock=NOW + MINUTE)

    (fire,) = await fires(client, "broken")
    assert (fire.reason, fire.detail, fire.run_id) == (
        SkipReason.REFUSED,
        "there is no workflow 'hello'; known are none",
        None,
    )
    assert told(await fires(client, "whole")) == ["12:01 fired"]


async def test_a_task_that_the_database_refuses_holds_up_no_other(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    for name in ("a", "bad", "z"):
        await add(client, name)
    await conn.execute("alter table qw.schedule drop constraint schedule_priority_check")
    await conn.execute("update qw.schedule set priority = 77 where name = 'bad'")
    scheduler = daemons.start()

    while await scheduler.step(clock=NOW + MINUTE):
        pass

    assert [told(await fires(client, name)) for name in ("a", "bad", "z")] == [
        ["12:01 fired"], ["12:01 refused"], ["12:01 fired"],
    ]  # fmt: skip
    assert scheduler.max_wait() > 0
    await expect_whole(conn)


async def test_a_schedule_that_cannot_be_worked_out_is_shown_and_holds_up_no_other(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    await add(client, "gone")
    await add(client, "here")
    await conn.execute("update qw.schedule set timezone = 'Mars/Olympus' where name = 'gone'")

    await daemons.start().step(clock=NOW + MINUTE)

    gone = await client.schedules.get("gone")
    assert gone.broken is not None
    assert gone.broken.startswith("timezone: 'Mars/Olympus' is not a time zone")
    assert gone.next_at is None
    assert told(await fires(client, "here")) == ["12:01 fired"]


async def test_a_schedule_added_by_sql_fires_at_its_first_tick(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    await conn.execute("select qw.schedule_add('s', 'noop', every => interval '1 second')")
    scheduler = daemons.start()

    await scheduler.step()
    async with asyncio.timeout(60):
        while not await fires(client):
            await asyncio.sleep(scheduler.max_wait())
            await scheduler.step()

    (fire,) = await fires(client)
    assert timedelta(0) < fire.tick - (await client.schedules.get("s")).created_at <= SECOND


# -- each tick once


async def test_three_daemons_make_one_task_per_tick(client: Client, daemons: Daemons, conn: Connection) -> None:
    for n in range(30):
        await add(client, f"s{n}")
    three = [daemons.start() for _ in range(3)]

    for minute in (1, 2, 3):
        await asyncio.gather(*(one.step(clock=NOW + minute * MINUTE) for one in three))
        await asyncio.gather(*(one.step(clock=NOW + minute * MINUTE) for one in three))

    assert await value(conn, "select count(*) from qw.task") == 90
    assert await value(conn, "select count(distinct (headers->>'schedule', headers->>'tick')) from qw.task") == 90
    await expect_whole(conn)


async def test_a_daemon_that_slept_over_two_ticks_does_not_bring_the_old_one_back(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    """The sleeper woke for 12:01, was stopped before its statement arrived, and goes on at 12:02:30."""
    await add(client)
    other = daemons.start()
    await other.step(clock=NOW + MINUTE)
    await other.step(clock=NOW + 2 * MINUTE)

    await daemons.start().step(clock=NOW + MINUTE)
    await daemons.start().step(clock=NOW + 2 * MINUTE + 30 * SECOND)

    assert await ticks_of_tasks(conn) == ["12:01", "12:02"]


async def test_a_daemon_stopped_in_the_middle_of_firing_holds_its_ticks_and_no_other(
    client: Client, daemons: Daemons, conn: Connection, other: Connection
) -> None:
    await add(client, "held")
    await add(client, "free")

    async with other.transaction():
        await other.execute("select 1 from qw.schedule where name = 'held' for update")
        scheduler = daemons.start()
        await scheduler.step(clock=NOW + MINUTE)
        assert (told(await fires(client, "held")), told(await fires(client, "free"))) == ([], ["12:01 fired"])
        for _ in range(2):
            await scheduler.step(clock=NOW + MINUTE)
        assert scheduler.max_wait() > 0

    await daemons.start().step(clock=NOW + MINUTE + SECOND)
    assert told(await fires(client, "held")) == ["12:01 fired"]


async def test_a_daemon_killed_while_it_fires_leaves_the_tick_to_the_next(
    client: Client, daemons: Daemons, conn: Connection, other: Connection
) -> None:
    await add(client)

    async def fire_and_die() -> None:
        async with other.transaction():
            await fire_due(other, limit=10, clock=NOW + MINUTE)
            await conn.execute("select pg_terminate_backend(%s)", (other.info.backend_pid,))
            await other.execute("select 1")

    with pytest.raises(Exception, match="terminat"):
        await fire_and_die()
    assert await fires(client) == []
    await daemons.start().step(clock=NOW + MINUTE + 2 * SECOND)

    assert await ticks_of_tasks(conn) == ["12:01"]


async def test_downtime_is_caught_up_on_by_policy(client: Client, daemons: Daemons) -> None:
    for policy in ("skip", "once", "all"):
        await add(client, policy, misfire=policy, cron="*/20 * * * *", window="45m")

    await daemons.start().step(clock=NOW + timedelta(minutes=70))

    assert told(await fires(client, "skip")) == ["12:20 missed", "12:40 missed", "13:00 missed"]
    assert told(await fires(client, "once")) == ["12:20 missed", "12:40 missed", "13:00 fired"]
    assert told(await fires(client, "all")) == ["12:20 missed", "12:40 fired", "13:00 fired"]


@pytest.mark.parametrize("step", [timedelta(minutes=-10), timedelta(minutes=10)])
async def test_a_step_of_the_databases_clock_doubles_and_loses_no_tick(
    client: Client, daemons: Daemons, conn: Connection, step: timedelta
) -> None:
    await add(client, misfire="all")
    scheduler = daemons.start()

    await scheduler.step(clock=NOW + MINUTE)
    for minute in range(2, 20):
        await scheduler.step(clock=NOW + minute * MINUTE + step)

    expected = [f"12:{minute:02}" for minute in range(1, 1 + int((19 * MINUTE + step) / MINUTE))]
    assert await ticks_of_tasks(conn) == expected


async def test_the_clock_of_a_daemon_does_not_matter(
    client: Client, daemons: Daemons, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(client, clock=await value(conn, "select now()"), every="1h")
    monkeypatch.setattr("time.time", lambda: 4e9)
    monkeypatch.setattr("time.monotonic", lambda: 5e9)

    await daemons.start().step()

    assert await fires(client) == []


async def test_after_everything_slept_the_missed_ticks_are_told(client: Client, daemons: Daemons) -> None:
    await add(client)
    scheduler = daemons.start()
    await scheduler.step(clock=NOW + MINUTE)

    await scheduler.step(clock=NOW + timedelta(hours=8, seconds=30))

    found = await fires(client)
    assert (found[0].reason, found[-1].reason, found[-1].tick) == (None, None, NOW + timedelta(hours=8))
    assert len(found) == 8 * 60
    assert {fire.reason for fire in found[1:-1]} == {SkipReason.MISSED}


# -- what people change meanwhile


async def test_a_pause_while_a_tick_fires_waits_for_it(client: Client, conn: Connection, other: Connection) -> None:
    await add(client)

    async with other.transaction():
        await fire_due(other, limit=10, clock=NOW + MINUTE)
        pause = asyncio.create_task(client.schedules.pause("s"))
        async with asyncio.timeout(60):
            while not await value(conn, WAITS):
                await asyncio.sleep(0.01)
    await pause

    assert told(await fires(client)) == ["12:01 fired"]
    assert (await client.schedules.get("s")).next_at is None


async def test_a_paused_schedule_does_not_fire_and_tells_which_ticks_it_skipped(
    client: Client, daemons: Daemons
) -> None:
    await add(client)
    await client.schedules.pause("s")
    await client.schedules.pause("s")

    await daemons.start().step(clock=NOW + 2 * MINUTE)
    await client.schedules.resume("s", clock=NOW + 2 * MINUTE + SECOND)
    await client.schedules.resume("s", clock=NOW + 2 * MINUTE + 2 * SECOND)
    await daemons.start().step(clock=NOW + 3 * MINUTE)

    assert told(await fires(client)) == ["12:01 paused", "12:02 paused", "12:03 fired"]


async def test_an_edit_never_fires_the_past(client: Client, daemons: Daemons) -> None:
    await add(client)
    changed = parse_schedule("s", {"cron": "*/5 * * * *", "timezone": "Asia/Kolkata", "type": "noop"})

    _, change = await client.schedules.add(changed, replace=True, clock=NOW + 2 * MINUTE)
    await daemons.start().step(clock=NOW + 5 * MINUTE)

    assert change == "changed"
    assert told(await fires(client)) == ["12:01 changed", "12:02 changed", "12:05 fired"]


async def test_the_same_schedule_again_changes_nothing(client: Client, daemons: Daemons) -> None:
    await add(client)
    same = parse_schedule("s", {"cron": "* * * * *", "type": "noop"})

    assert (await client.schedules.add(same, replace=True, clock=NOW + 2 * MINUTE))[1] == "unchanged"
    await daemons.start().step(clock=NOW + 2 * MINUTE)

    assert told(await fires(client)) == ["12:01 missed", "12:02 fired"]


async def test_an_edit_does_not_resume_what_somebody_paused(client: Client) -> None:
    await add(client)
    await client.schedules.pause("s")

    await client.schedules.add(parse_schedule("s", {"cron": "@daily", "type": "noop"}), replace=True, clock=NOW)

    assert (await client.schedules.get("s")).next_at is None


async def test_a_removed_schedule_fires_no_more_and_tells_what_it_left(client: Client, daemons: Daemons) -> None:
    id = await add(client)

    await client.schedules.remove("s", clock=NOW + MINUTE + SECOND)
    await daemons.start().step(clock=NOW + 5 * MINUTE)

    with pytest.raises(NotFound, match="there is no schedule 's'"):
        await client.schedules.get("s")
    async with client.connection() as conn:
        assert told(await of_schedule(conn, id)) == ["12:01 removed"]


async def test_people_and_daemons_at_once_decide_each_tick_once(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    """Editing, pausing, resuming and firing race at every tick; afterwards each one has exactly one row."""
    id = await add(client, misfire="all")
    two = [daemons.start(), daemons.start()]
    for minute in range(1, 31):
        clock = NOW + minute * MINUTE
        edit = parse_schedule("s", {"cron": "* * * * *", "type": "noop", "misfire": "all", "description": str(minute)})
        await asyncio.gather(
            two[0].step(clock=clock),
            two[1].step(clock=clock),
            client.schedules.add(edit, replace=True, clock=clock),
            client.schedules.pause("s") if minute % 3 == 0 else client.schedules.resume("s", clock=clock),
        )
    await client.schedules.resume("s", clock=NOW + 30 * MINUTE)
    await two[0].step(clock=NOW + 30 * MINUTE)

    rows = await column(conn, "select tick from qw.schedule_fire where schedule_id = %s order by 1", id)
    assert rows == [NOW + minute * MINUTE for minute in range(1, 31)]
    made = await column(conn, "select task_id from qw.schedule_fire where reason is null")
    assert sorted(made) == sorted(await column(conn, "select id from qw.task"))


# -- overlap


async def test_a_tick_is_skipped_while_the_last_task_is_not_final(client: Client, daemons: Daemons) -> None:
    await add(client, overlap="skip")
    scheduler = daemons.start()

    await scheduler.step(clock=NOW + MINUTE)
    await scheduler.step(clock=NOW + 2 * MINUTE)
    first, second = await fires(client)
    assert first.task_id is not None
    await client.tasks.cancel([first.task_id])
    await scheduler.step(clock=NOW + 3 * MINUTE)

    assert told(await fires(client)) == ["12:01 fired", "12:02 overlap", "12:03 fired"]
    assert (second.blocker, second.detail) == (first.task_id, f"{first.task_id} was not final")


async def test_a_tick_may_take_the_place_of_the_last_task(client: Client, daemons: Daemons, conn: Connection) -> None:
    await add(client, overlap="cancel")
    scheduler = daemons.start()

    await scheduler.step(clock=NOW + MINUTE)
    await scheduler.step(clock=NOW + 2 * MINUTE)

    first, second = [fire.task_id for fire in await fires(client)]
    assert first is not None
    assert second is not None
    assert [await status(conn, first), await status(conn, second)] == ["cancelled", "pending"]
    await expect_whole(conn)


async def test_runs_overlap_like_tasks(client: Client, daemons: Daemons, conn: Connection) -> None:
    await client.workflows.save(parse_workflow("w", {"steps": [{"id": "a", "type": "noop"}]}))
    await add(client, "skips", workflow="w", overlap="skip")
    await add(client, "cancels", workflow="w", overlap="cancel")
    scheduler = daemons.start()

    await scheduler.step(clock=NOW + MINUTE)
    await scheduler.step(clock=NOW + 2 * MINUTE)

    assert told(await fires(client, "skips")) == ["12:01 fired", "12:02 overlap"]
    first, _ = await fires(client, "cancels")
    assert first.run_id is not None
    assert (await client.runs.get(first.run_id)).run.cancel_asked


# -- by hand


async def test_a_trigger_fires_now_even_when_paused(client: Client, daemons: Daemons) -> None:
    await add(client, paused=True)

    id = await client.schedules.trigger("s")

    assert (await client.tasks.get(id)).type == "noop"
    (fire,) = await fires(client)
    assert (fire.cause, fire.task_id) == ("trigger", id)


async def test_a_trigger_can_be_repeated_by_id(client: Client) -> None:
    await add(client)
    id = await client.schedules.trigger("s")

    assert await client.schedules.trigger("s", id=id) == id
    assert len(await fires(client)) == 1


async def test_a_trigger_of_a_workflow_that_is_gone_says_so(client: Client, conn: Connection) -> None:
    await client.workflows.save(parse_workflow("w", {"steps": [{"id": "a", "type": "noop"}]}))
    await add(client, workflow="w")
    await conn.execute("update qw.workflow set is_active = false")

    with pytest.raises(Conflict, match="workflow w is not active"):
        await client.schedules.trigger("s")
    assert await fires(client) == []


async def test_a_backfill_fires_the_past_once(client: Client, daemons: Daemons, conn: Connection) -> None:
    await add(client, cron="*/10 * * * *")
    await daemons.start().step(clock=NOW + 35 * MINUTE)
    since, until = NOW - 20 * MINUTE, NOW + 30 * MINUTE

    async def backfill(**options: Any) -> tuple[list[str], int]:
        answer = await client.schedules.backfill("s", since, until, clock=NOW + 35 * MINUTE, **options)
        return [f"{fire.tick:%H:%M}" for fire in answer.made], answer.known

    assert told(await fires(client)) == ["12:10 missed", "12:20 missed", "12:30 fired"]
    missing = ["11:40", "11:50", "12:00", "12:10", "12:20"]
    assert await backfill(dry_run=True) == (missing, 1)
    assert await backfill() == (missing, 1)
    assert await backfill() == ([], 6)
    assert await ticks_of_tasks(conn) == [*missing, "12:30"]


async def test_a_backfill_leaves_the_ticks_that_a_daemon_is_about_to_serve(client: Client) -> None:
    await add(client)

    answer = await client.schedules.backfill("s", NOW - MINUTE, NOW + 9 * MINUTE, clock=NOW + 5 * MINUTE)

    assert [f"{fire.tick:%H:%M}" for fire in answer.made] == ["11:59", "12:00"]


async def test_a_backfill_of_ticks_that_may_be_forgotten_is_refused(client: Client) -> None:
    await add(client)

    with pytest.raises(Invalid, match=r"since: is more than 31d ago"):
        await client.schedules.backfill("s", NOW - timedelta(days=32), NOW, clock=NOW)
    with pytest.raises(Invalid, match="until: more than 1,000 ticks; the first 1,000 end at 2026-11-24T04:39:00"):
        await client.schedules.backfill("s", NOW - timedelta(hours=24), NOW, clock=NOW)
    with pytest.raises(Invalid, match="until: comes before since"):
        await client.schedules.backfill("s", NOW, NOW - MINUTE, clock=NOW)


# -- refused


async def test_what_could_not_be_made_is_refused_at_once(client: Client) -> None:
    with pytest.raises(Invalid, match=r"type: unknown task type 'nop'; did you mean 'noop'\?"):
        await add(client, type="nop")
    with pytest.raises(NotFound, match="there is no workflow 'w'"):
        await add(client, workflow="w")
    await client.workflows.save(parse_workflow("w", {"input": {"a": "string"}, "steps": [{"id": "a", "type": "noop"}]}))
    with pytest.raises(Invalid, match=r"input\.a: is missing"):
        await add(client, workflow="w")
    with pytest.raises(Invalid, match="at: it never fires: its last time has passed"):
        await add(client, at="2026-11-24T11:59:00Z")


async def test_a_name_that_is_taken_is_refused(client: Client) -> None:
    id = await add(client)

    with pytest.raises(Conflict, match="schedule s already exists"):
        await add(client)
    same = parse_schedule("s", {"cron": "* * * * *", "type": "noop"})
    assert await client.schedules.add(same, id=id) == (id, "unchanged")


async def test_a_missing_schedule_gets_a_guess(client: Client) -> None:
    await add(client, "nightly")

    with pytest.raises(NotFound, match="there is no schedule 'nightyl'; did you mean 'nightly'"):
        await client.schedules.pause("nightyl")


# -- watched


async def test_what_was_missed_and_what_succeeded_is_measured(
    client: Client, daemons: Daemons, conn: Connection
) -> None:
    await add(client, "nightly", misfire="skip")
    await add(client, "never", paused=True)
    await daemons.start().step(clock=NOW + 3 * MINUTE)
    [task] = await column(conn, "select id from qw.task")
    started = await client.health.schedule_measures()

    await conn.execute("delete from qw.ready")
    await conn.execute(
        "insert into qw.finished (task_id, status, fence, attempt, retries, crashes, finished_at)"
        " values (%s, 'completed', 1, 1, 0, 0, %s)",
        (task, NOW),
    )

    never, nightly = await client.health.schedule_measures()
    assert (never.next_tick, never.missed, never.succeeded_at) == (None, 0, None)
    assert (nightly.next_tick, nightly.missed, nightly.succeeded_at) == (NOW + 4 * MINUTE, 2, NOW)
    assert [each.succeeded_at for each in started] == [None, None]


# -- the sleep


async def test_it_sleeps_exactly_until_the_next_tick(client: Client, daemons: Daemons, conn: Connection) -> None:
    await add(client, every="1h", clock=await value(conn, "select now()"))
    scheduler = daemons.start()

    await scheduler.step()

    assert 3590 < scheduler.max_wait() <= 3600


async def test_it_wakes_when_a_nearer_tick_is_heard_of(daemons: Daemons) -> None:
    scheduler = daemons.start()
    await scheduler.step()
    assert scheduler.max_wait() > 3599

    scheduler.expect(0.5)

    assert scheduler.bell.is_set()
    assert scheduler.max_wait() <= 0.5


async def test_it_is_not_woken_by_what_it_waits_for_anyway(daemons: Daemons) -> None:
    scheduler = daemons.start()
    scheduler.expect(5.0)
    scheduler.max_wait()
    scheduler.bell.clear()

    scheduler.expect(5.0)
    scheduler.expect(None)

    assert not scheduler.bell.is_set()


async def test_ten_thousand_schedules_of_the_same_minute_fire_in_five_seconds(
    daemons: Daemons, conn: Connection
) -> None:
    await conn.execute(
        """
        insert into qw.schedule (id, name, cron, timezone, type, payload, mark, next_tick, next_at)
        select qw.new_id(), 's' || n, '*/5 9-17 * * 1-5', 'Europe/Berlin', 'noop', '{}', %s, %s, %s
          from generate_series(1, 10000) n""",
        (NOW, NOW + 5 * MINUTE, NOW + 5 * MINUTE),
    )
    scheduler = daemons.start()
    started = time.process_time()

    while await scheduler.step(clock=NOW + 5 * MINUTE):
        pass

    assert await value(conn, "select count(*) from qw.task") == 10_000
    assert time.process_time() - started < 5


async def test_a_pass_that_takes_long_leaves_the_rest_to_the_next(
    client: Client, daemons: Daemons, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "DECIDING_SECONDS", 0.0)
    for name in ("a", "b", "c"):
        await add(client, name)
    scheduler = daemons.start()

    made = []
    for _ in range(4):
        await scheduler.step(clock=NOW + MINUTE)
        made.append(await value(conn, "select count(*) from qw.task"))

    assert made == [1, 2, 3, 3]
    await expect_whole(conn)


async def test_it_looks_again_at_once_but_does_not_spin_on_what_another_daemon_holds(
    client: Client, daemons: Daemons, other: Connection
) -> None:
    await add(client, clock=datetime.now(UTC) - 2 * MINUTE)
    scheduler = daemons.start()

    async with other.transaction():
        await other.execute("select 1 from qw.schedule for update")
        waits = []
        for _ in range(3):
            await scheduler.step()
            waits.append(scheduler.max_wait())

    assert waits[0] == 0
    assert min(waits[1:]) > 0  # how long: what is left of a pause that began during the step
