from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from qw.core.schedule import FIRES_KEPT, Misfire, Overlap, Schedule, TaskTarget, WorkflowTarget
from qw.core.schedule.fire_decision import Fire, SkippedTick, SkipReason, first_tick
from qw.store import fires, schedules
from qw.store.connection import Connection, connect_guarded
from qw.store.fires import Making
from qw.store.ids import new_id
from qw.store.schedules import ScheduleProgress, StoredSchedule
from tests.given import finished, running, value

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def stored(conn: Connection, name: str = "s", *, now: datetime = NOW, **fields: Any) -> StoredSchedule:
    """A schedule that was added at *now*: every minute, unless *fields* say otherwise."""
    when = {} if fields.keys() & {"every", "at"} else {"cron": "* * * * *"}
    schedule = Schedule(**{"name": name, "target": TaskTarget(type="noop"), **when, **fields})
    id = new_id()
    fresh = StoredSchedule(
        id=id, schedule=schedule, paused_at=None, mark=now, next_tick=None, next_at=None, last_id=None, broken=None,
        created_at=now, updated_at=now, read_at=now,
    )  # fmt: skip
    assert await schedules.add(conn, id, schedule, now=now, next=first_tick(fresh.state(), now))
    found = await schedules.get(conn, id, clock=now)
    assert found is not None
    return found


async def test_a_schedule_comes_back_as_it_was_stored(conn: Connection) -> None:
    full = await stored(
        conn,
        cron="30 0 3 * * *",
        seconds=True,
        timezone="Europe/Berlin",
        target=TaskTarget(
            type="send_email",
            payload={"customerId": "zoë"},
            queue="mail",
            priority=2,
            max_retries=4,
            timeout=timedelta(minutes=9),
        ),
        misfire=Misfire.ALL,
        window=None,
        cap=7,
        overlap=Overlap.CANCEL,
        jitter=timedelta(seconds=30),
        start=NOW + MINUTE,
        end=NOW + 400 * timedelta(days=1),
        description="Grüße",
    )

    assert full.schedule.window is None
    assert full.schedule.target == TaskTarget(
        type="send_email",
        payload={"customerId": "zoë"},
        queue="mail",
        priority=2,
        max_retries=4,
        timeout=timedelta(minutes=9),
    )
    assert await schedules.get(conn, full.name, clock=NOW) == full == await schedules.get(conn, full.id, clock=NOW)


async def test_a_workflow_schedule_comes_back_as_it_was_stored(conn: Connection) -> None:
    found = await stored(conn, every=MINUTE, target=WorkflowTarget(workflow="invoice", input={"customerId": "zoe"}))

    assert found.schedule.target == WorkflowTarget(workflow="invoice", input={"customerId": "zoe"})
    assert (found.schedule.every, found.schedule.cron) == (MINUTE, None)


async def test_a_name_is_taken_once(conn: Connection) -> None:
    first = await stored(conn)

    assert not await schedules.add(conn, new_id(), first.schedule, now=NOW, next=(None, None))


async def test_only_what_is_due_by_the_given_clock_is_claimed(conn: Connection) -> None:
    await stored(conn, "soon")
    await stored(conn, "later", every=2 * MINUTE)

    async def claimed(clock: datetime) -> list[str]:
        async with conn.transaction():
            return [found.name for found in await schedules.claim(conn, limit=10, clock=clock)]

    assert await claimed(NOW) == []
    assert await claimed(NOW + MINUTE) == ["soon"]
    assert await claimed(NOW + 2 * MINUTE) == ["soon", "later"]


async def test_two_daemons_never_claim_the_same_schedule(conn: Connection, other: Connection) -> None:
    for n in range(4):
        await stored(conn, f"s{n}")

    async with conn.transaction(), other.transaction():
        mine = await schedules.claim(conn, limit=3, clock=NOW + MINUTE)
        theirs = await schedules.claim(other, limit=3, clock=NOW + MINUTE)

    assert (len(mine), len(theirs)) == (3, 1)
    assert {s.id for s in mine}.isdisjoint(s.id for s in theirs)


async def test_a_schedule_that_moved_on_is_not_claimed_again(conn: Connection, other: Connection) -> None:
    found = await stored(conn)

    async with conn.transaction():
        await schedules.claim(conn, limit=1, clock=NOW + MINUTE)
        moved = ScheduleProgress(id=found.id, mark=NOW + MINUTE, next_tick=NOW + 2 * MINUTE, next_at=NOW + 2 * MINUTE)
        await schedules.decide(conn, [moved])
    async with other.transaction():
        assert await schedules.claim(other, limit=1, clock=NOW + MINUTE) == []


async def test_the_mark_only_rises(conn: Connection) -> None:
    found = await stored(conn)

    await schedules.decide(conn, [ScheduleProgress(id=found.id, mark=NOW - MINUTE, next_tick=NOW, next_at=NOW)])

    assert await value(conn, "select mark from qw.schedule") == NOW
    with pytest.raises(psycopg.errors.RaiseException, match="must not move back"):
        await conn.execute("update qw.schedule set mark = mark - interval '1 second'")


async def test_a_tick_is_recorded_once(conn: Connection) -> None:
    found = await stored(conn)
    first, again = (Making(stored=found, fire=Fire(tick=NOW, id=new_id())) for _ in range(2))
    skip = SkippedTick(tick=NOW, reason=SkipReason.MISSED, detail="late")

    assert await fires.record(conn, [first], []) == {(found.id, NOW)}
    assert await fires.record(conn, [again], []) == set()
    assert await fires.record(conn, [], [(found.id, skip)]) == set()
    (fire,) = await fires.of_schedule(conn, found.id)
    assert (fire.task_id, fire.run_id, fire.reason) == (first.fire.id, None, None)


async def test_a_backfill_fires_what_was_skipped_and_leaves_what_fired(conn: Connection) -> None:
    found = await stored(conn)
    done, late = (Making(stored=found, fire=Fire(tick=NOW + n * MINUTE, id=new_id())) for n in range(2))
    await fires.record(
        conn, [done], [(found.id, SkippedTick(tick=NOW + MINUTE, reason=SkipReason.MISSED, detail="late"))]
    )
    again = Making(stored=found, fire=Fire(tick=NOW, id=new_id()))

    assert await fires.record_backfill(conn, [again, late]) == {(found.id, NOW + MINUTE)}
    assert await fires.fired_among(conn, found.id, [NOW, NOW + MINUTE]) == {NOW, NOW + MINUTE}
    assert [(f.cause, f.reason, f.task_id) for f in await fires.of_schedule(conn, found.id)] == [
        ("backfill", None, late.fire.id),
        ("tick", None, done.fire.id),
    ]


async def test_busy_is_what_is_not_final(conn: Connection) -> None:
    (over,) = await finished(conn)
    (held,) = await running(conn)

    assert await schedules.busy(conn, [over, held.id, new_id()]) == {held.id}


async def test_a_change_moves_the_mark_and_mends_what_was_broken(conn: Connection) -> None:
    found = await stored(conn)
    await schedules.decide(
        conn, [ScheduleProgress(id=found.id, mark=NOW, next_tick=None, next_at=None, broken="no such zone")]
    )
    later = NOW + 5 * MINUTE

    await schedules.change(conn, found.id, found.schedule, now=later, next=(later + MINUTE, later + MINUTE))

    changed = await schedules.get(conn, found.id)
    assert changed is not None
    assert (changed.mark, changed.next_at, changed.broken) == (later, later + MINUTE, None)


async def test_late_schedules_are_those_that_nobody_serves(conn: Connection) -> None:
    now = await schedules.now(conn)
    await stored(conn, "late", now=now - 5 * MINUTE)
    await stored(conn, "on-time", now=now, every=MINUTE)
    paused = await stored(conn, "paused", now=now - 5 * MINUTE)
    await schedules.pause(conn, paused.id)

    late = await schedules.late(conn, by=timedelta(seconds=10))

    assert [name for name, _ in late] == ["late"]
    assert 3 * MINUTE < late[0][1] <= 5 * MINUTE


async def test_what_became_of_ticks_is_kept_longer_than_a_backfill_reaches(conn: Connection) -> None:
    found = await stored(conn)
    for n in range(3):
        await fires.record(conn, [Making(stored=found, fire=Fire(tick=NOW + n * MINUTE, id=new_id()))], [])
    await conn.execute(
        "update qw.schedule_fire set decided_at = now() - %s where tick > %s", (FIRES_KEPT + MINUTE, NOW)
    )

    assert await fires.prune(conn, age=FIRES_KEPT, limit=1) == 1
    assert await fires.prune(conn, age=FIRES_KEPT, limit=10) == 1
    assert len(await fires.of_schedule(conn, found.id)) == 1


async def test_a_hundred_thousand_schedules_cost_nothing_while_they_are_not_due(own_url: str) -> None:
    """In a database of its own: what other tests deleted stands in the index before what is counted here."""
    async with await connect_guarded(own_url, name="qw test") as conn:
        await conn.execute("""
            insert into qw.schedule (id, name, cron, type, payload, mark, next_tick, next_at)
            select qw.new_id(), 's' || n, '0 0 1 1 *', 'noop', '{}', now(),
                   now() + n * interval '1 second' + interval '1h', now() + n * interval '1 second' + interval '1h'
              from generate_series(1, 100000) n""")
        await conn.execute("analyze qw.schedule")

        for statement in (
            "select next_at from qw.schedule where next_at is not null order by next_at, id limit 1",
            "select * from qw.schedule where next_at <= now() order by next_at, id limit 250 for update skip locked",
        ):
            (top,) = await value(conn, f"explain (analyze, buffers, format json) {statement}")
            assert top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"] < 10


async def test_sql_can_add_a_schedule_that_a_daemon_works_out(conn: Connection) -> None:
    id = await value(
        conn, "select qw.schedule_add('s', 'noop', '{\"a\": 1}', cron => '0 3 * * *', timezone => 'Europe/Berlin')"
    )

    found = await schedules.get(conn, "s")
    assert found is not None
    assert (found.id, found.next_tick, found.schedule.cron) == (id, None, "0 3 * * *")
    assert found.next_at is not None
    assert found.next_at <= found.read_at


async def test_sql_refuses_a_schedule_with_a_program_of_its_own(conn: Connection) -> None:
    for arguments in (
        "'s', 'command', '{\"run\": \"id\"}', cron => '@daily'",
        "'s', 'noop'",
        "'s', 'noop', at => 'infinity'",
        "'s', 'noop', at => '2026-01-01'",
    ):
        with pytest.raises(psycopg.Error):
            await conn.execute(f"select qw.schedule_add({arguments})".encode())


async def test_sql_can_remove_a_schedule(conn: Connection) -> None:
    await stored(conn)

    assert await value(conn, "select qw.schedule_remove('s')") is True
    assert await value(conn, "select qw.schedule_remove('s')") is False
