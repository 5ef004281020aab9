from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from qw.core.errors import Unavailable
from qw.core.liveness import BETWEEN_CHECKS
from qw.core.task.ending import HandedBack
from qw.core.task.measure import Measure
from qw.services.liveness.rescuer import Rescuer
from qw.services.upkeep.measures import Measures
from qw.store import claims, measures, queues, tasks, workers
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, ReconnectingConnection, connect
from qw.store.ids import new_id
from tests.given import (
    claimed,
    column,
    ended,
    enqueued,
    expect_whole,
    homes,
    new_task,
    registered,
    running,
    until_somebody_waits,
    value,
)

LEASE, SHORT = timedelta(seconds=3), timedelta(seconds=0.6)


class Rescue:
    """A rescuer beside a session to look on."""

    def __init__(
        self, link: ReconnectingConnection, worker: int, *, locks: bool = True, lease: timedelta = LEASE
    ) -> None:
        self.lease = lease
        self.measures = Measures(link)
        self.told: list[EndedAttempt] = []
        self.rescuer = Rescuer(link, lambda: worker, lease, self.measures, locks=locks, ended=self.told.extend)

    async def look(self) -> None:
        await self.rescuer.step()

    async def look_twice(self) -> None:
        await self.look()
        await asyncio.sleep(BETWEEN_CHECKS + 0.02)
        await self.look()

    async def look_for_a_lease(self) -> None:
        until = time.monotonic() + self.lease.total_seconds() + 0.1
        while time.monotonic() < until:
            await self.look()
            await asyncio.sleep(self.lease.total_seconds() / 10)
        await self.look()


@pytest.fixture
async def link(url: str) -> AsyncIterator[ReconnectingConnection]:
    link = ReconnectingConnection(url, name="qw test rescuer")
    yield link
    await link.close()


@pytest.fixture
async def rescue(link: ReconnectingConnection, conn: Connection) -> Rescue:
    return Rescue(link, await registered(conn))


async def test_a_worker_without_its_lock_at_two_looks_is_dead_and_its_tasks_come_back(
    conn: Connection, rescue: Rescue
) -> None:
    [claim] = await running(conn)

    await rescue.look()
    assert await homes(conn, claim.id) == ["running"]
    assert rescue.rescuer.max_wait() < 1
    await asyncio.sleep(BETWEEN_CHECKS + 0.02)
    await rescue.look()

    assert await homes(conn, claim.id) == ["ready"]
    row = await (await conn.execute("select seq, attempt, retries, crashes from qw.ready")).fetchone()
    assert row == (claim.seq, 1, 0, 1)
    [died] = await tasks.attempts(conn, claim.id)
    assert (died.outcome, died.error) == ("worker_died", f"worker {died.worker} died while it held this task (1 of 3)")
    assert rescue.rescuer.rescued == 1
    await rescue.measures.step()
    assert await measures.find(conn) == [Measure("tasks_rescued", ("noop",), (1,))]
    await expect_whole(conn)


async def test_a_worker_that_beats_between_two_looks_lives(conn: Connection, rescue: Rescue) -> None:
    [claim] = await running(conn)
    await rescue.look()
    await conn.execute("update qw.worker set beats = beats + 1")
    await asyncio.sleep(BETWEEN_CHECKS + 0.02)
    await rescue.look()

    assert await homes(conn, claim.id) == ["running"]
    assert await value(conn, "select count(*) from qw.worker where dead_at is not null") == 0


async def test_who_holds_its_lock_is_dead_only_by_silence(
    conn: Connection, other: Connection, link: ReconnectingConnection
) -> None:
    rescue = Rescue(link, await registered(conn), lease=SHORT)
    worker = await registered(conn)
    [claim] = await running(conn, worker=worker)
    await workers.hold_too(other, worker)
    await rescue.look()
    assert await homes(conn, claim.id) == ["running"]

    await rescue.look_for_a_lease()

    assert await homes(conn, claim.id) == ["ready"]


async def test_silence_is_no_crash_of_what_the_worker_held(
    conn: Connection, other: Connection, link: ReconnectingConnection
) -> None:
    rescue = Rescue(link, await registered(conn), lease=SHORT)
    worker = await registered(conn)
    [claim] = await running(conn, worker=worker)
    await workers.hold_too(other, worker)
    await rescue.look_for_a_lease()

    assert await column(conn, "select (attempt, retries, crashes)::text from qw.ready") == ["(1,0,0)"]
    [died] = await tasks.attempts(conn, claim.id)
    assert died.outcome == "worker_died"
    assert died.error == f"worker {worker} was silent for a lease while it held this task (1 of 10)"


async def test_silences_are_counted_from_the_history_and_the_tenth_fails_the_task(
    conn: Connection, rescue: Rescue
) -> None:
    [claim] = await running(conn, new_task(unique_key="k"))
    for n in range(1, 10):
        await conn.execute("update qw.worker set dead_at = now(), death = 'silent' where dead_at is null and id ="
                           " (select worker from qw.running)")  # fmt: skip
        await rescue.look()
        wait = await value(conn, "select run_at - now() from qw.scheduled")
        assert (wait is None) == (n <= 2)
        await conn.execute("with due as (delete from qw.scheduled returning *)"
                           " insert into qw.ready (task_id, queue, priority, attempt, retries, crashes)"
                           " select task_id, queue, priority, attempt, retries, crashes from due")  # fmt: skip
        [again] = await claimed(conn, await registered(conn))
        assert (again.retries, again.crashes) == (0, 0)
    await conn.execute("update qw.worker set dead_at = now(), death = 'silent' where dead_at is null and id ="
                       " (select worker from qw.running)")  # fmt: skip
    await rescue.look()

    [task] = await tasks.get(conn, [claim.id])
    assert task.status == "failed"
    assert "(10 of 10)" in (task.error or "")
    await expect_whole(conn)


@pytest.mark.parametrize("step", ["10 years", "-10 years"])
async def test_a_step_of_the_databases_clock_makes_nobody_dead(
    conn: Connection, other: Connection, link: ReconnectingConnection, step: str
) -> None:
    """What such a step does to the rows: all that was written before it is far away."""
    rescue = Rescue(link, await registered(conn), lease=SHORT)
    worker = await registered(conn)
    [claim] = await running(conn, worker=worker)
    await workers.hold_too(other, worker)
    await rescue.look()
    await conn.execute(
        "update qw.worker set seen_at = seen_at + %(by)s::interval, started_at = started_at + %(by)s::interval",
        {"by": step},
    )
    await rescue.look_twice()
    await conn.execute("update qw.worker set beats = beats + 1")
    await rescue.look_twice()

    assert await homes(conn, claim.id) == ["running"]
    assert await value(conn, "select count(*) from qw.worker where dead_at is not null") == 0


async def test_behind_a_pooler_a_missing_lock_says_nothing(conn: Connection, link: ReconnectingConnection) -> None:
    rescue = Rescue(link, await registered(conn), locks=False, lease=SHORT)
    worker = await registered(conn)
    [claim] = await running(conn, worker=worker)
    await rescue.look()
    await conn.execute("update qw.worker set beats = beats + 1")
    await rescue.look_twice()
    assert await homes(conn, claim.id) == ["running"]
    await rescue.look_for_a_lease()

    assert await homes(conn, claim.id) == ["ready"]


async def test_who_cannot_take_locks_is_not_missed_by_those_who_can(conn: Connection, rescue: Rescue) -> None:
    [claim] = await running(conn)
    await conn.execute("update qw.worker set server = null")

    await rescue.look_twice()

    assert await homes(conn, claim.id) == ["running"]


async def test_a_lock_that_a_restart_took_away_kills_nobody(conn: Connection, rescue: Rescue) -> None:
    [claim] = await running(conn)
    await conn.execute("update qw.worker set server = server - interval '1 hour'")

    await rescue.look_twice()

    assert await homes(conn, claim.id) == ["running"]


async def test_who_lost_contact_judges_by_locks_again_after_seconds_and_not_at_once(
    conn: Connection, link: ReconnectingConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.core.liveness.RECONNECT_SECONDS", 1.0)
    rescue = Rescue(link, await registered(conn))
    [claim] = await running(conn)
    async with link.use() as own:
        pid = await value(own, "select pg_backend_pid()")
    await rescue.look()
    await conn.execute("select pg_terminate_backend(%s, 5000)", [pid])

    with pytest.raises(Unavailable):
        await rescue.look()
    await rescue.look_twice()
    assert await homes(conn, claim.id) == ["running"]
    async with asyncio.timeout(60):
        while await homes(conn, claim.id) == ["running"]:
            await asyncio.sleep(0.05)
            await rescue.look()


async def test_a_new_connection_is_lost_contact_even_if_somebody_else_opened_it(
    conn: Connection, rescue: Rescue, link: ReconnectingConnection
) -> None:
    [claim] = await running(conn)
    await rescue.look()
    async with link.use() as own:
        await own.close()
    async with link.use() as own:
        assert not own.closed

    await rescue.look_twice()

    assert await homes(conn, claim.id) == ["running"]


async def test_the_claim_of_a_worker_that_nobody_knows_is_rescued(conn: Connection, rescue: Rescue) -> None:
    [claim] = await running(conn)
    await conn.execute("delete from qw.worker where id = (select worker from qw.running)")

    await rescue.look()

    assert await homes(conn, claim.id) == ["ready"]


async def test_a_rescue_is_told_to_those_who_wait_for_ends(conn: Connection, rescue: Rescue) -> None:
    [claim] = await running(conn, new_task(queue="mail"))
    await conn.execute("delete from qw.worker where id = (select worker from qw.running)")

    await rescue.look()

    assert [(e.id, e.queue, e.ending.outcome) for e in rescue.told] == [(claim.id, "mail", "worker_died")]


async def test_a_late_claim_of_a_dead_worker_is_rescued(conn: Connection, rescue: Rescue) -> None:
    worker = await registered(conn)
    [claim] = await running(conn, worker=worker)
    await conn.execute("update qw.worker set dead_at = now() - interval '1 h' where id = %s", [worker])

    await rescue.look()

    assert await homes(conn, claim.id) == ["ready"]


async def test_the_third_crash_ends_a_task_and_frees_what_it_holds(conn: Connection, rescue: Rescue) -> None:
    run = new_id()
    [claim] = await running(conn, new_task(unique_key="k"))
    await conn.execute("update qw.running set crashes = 2")
    await conn.execute("update qw.task set run_id = %s", [run])
    await rescue.look_twice()

    [task] = await tasks.get(conn, [claim.id])
    assert (task.status, task.crashes, task.retries) == ("failed", 3, 0)
    assert "(3 of 3)" in (task.error or "")
    assert await column(conn, "select run_id from qw.advance") == [run]
    await expect_whole(conn)


async def test_retries_and_crashes_are_counted_apart(conn: Connection, rescue: Rescue) -> None:
    [claim] = await running(conn, new_task(max_retries=1))
    await rescue.look_twice()

    [again] = await claimed(conn, await registered(conn))
    assert (again.id, again.retries, again.crashes) == (claim.id, 0, 1)


async def test_an_end_that_came_first_wins(conn: Connection, rescue: Rescue, url: str) -> None:
    [claim] = await running(conn)
    await rescue.look()
    await asyncio.sleep(BETWEEN_CHECKS + 0.02)
    async with await connect(url) as late:
        await late.execute("begin")
        await claims.end(late, [ended(claim)])
        looking = asyncio.create_task(rescue.look())
        await until_somebody_waits(conn)
        await late.execute("commit")
        await looking

    assert await homes(conn, claim.id) == ["finished"]
    assert rescue.rescuer.rescued == 0
    await expect_whole(conn)


async def test_two_rescuers_bring_a_task_back_once(conn: Connection, url: str, link: ReconnectingConnection) -> None:
    held = await running(conn, *(new_task() for _ in range(50)))
    me = await registered(conn)
    other_link = ReconnectingConnection(url, name="qw test rescuer 2")
    pair = [Rescue(link, me), Rescue(other_link, me)]
    await asyncio.gather(*(rescue.look_twice() for rescue in pair))
    await other_link.close()

    assert sum(rescue.rescuer.rescued for rescue in pair) == 50
    assert await column(conn, "select distinct crashes from qw.ready") == [1]
    assert len(held) == 50
    await expect_whole(conn)


async def test_a_full_batch_says_that_there_is_more(
    conn: Connection, rescue: Rescue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.services.liveness.rescuer.BATCH", 2)
    await running(conn, *(new_task() for _ in range(3)))
    await conn.execute("update qw.worker set dead_at = now() where id = (select max(worker) from qw.running)")

    assert await rescue.rescuer.step()
    assert not await rescue.rescuer.step()
    assert await column(conn, "select count(*) from qw.ready") == [3]


async def test_a_last_crash_beside_another_suspect_is_not_the_last(conn: Connection, rescue: Rescue) -> None:
    one, two = await running(conn, new_task(), new_task())
    await conn.execute("update qw.running set crashes = 2")
    await rescue.look_twice()

    assert await column(conn, "select crashes from qw.ready") == [3, 3]
    [died] = await tasks.attempts(conn, one.id)
    assert "it runs once more, alone" in (died.error or "")
    [again] = await claimed(conn, await registered(conn), room=1)
    await rescue.look_twice()
    assert {task.status for task in await tasks.get(conn, [one.id, two.id])} == {"failed", "pending"}
    assert await homes(conn, again.id) == ["finished"]


async def test_a_crash_that_the_worker_survived_does_not_count(conn: Connection, rescue: Rescue) -> None:
    """Frozen with its sessions closed, it was taken for dead; now it says that it runs."""
    [claim] = await running(conn)
    await rescue.look_twice()
    await conn.execute("update qw.worker set death = 'survived' where death = 'crashed'")
    [again] = await claimed(conn, await registered(conn))
    assert again.crashes == 1
    await rescue.look_twice()

    assert await column(conn, "select crashes from qw.ready where task_id = %s", claim.id) == [1]


async def test_who_is_failed_for_its_crashes_explains_those_of_the_others(conn: Connection, rescue: Rescue) -> None:
    innocent, poison = await running(conn, new_task(), new_task())
    await rescue.look_twice()
    for _ in range(2):
        await claimed_only(conn, poison.id)
        await rescue.look_twice()
    assert await homes(conn, poison.id) == ["finished"]
    await claimed_only(conn, innocent.id)
    await rescue.look_twice()

    assert await column(conn, "select crashes from qw.ready where task_id = %s", innocent.id) == [1]


async def claimed_only(conn: Connection, id: UUID) -> None:
    """Claim everything in the name of one new worker, then hand back all but this task."""
    held = await claimed(conn, await registered(conn))
    await claims.end(conn, [ended(claim, HandedBack()) for claim in held if claim.id != id])


async def test_who_waits_without_living_is_forgotten(conn: Connection) -> None:
    living, dead = await registered(conn), await registered(conn)
    await conn.execute("update qw.worker set dead_at = now() where id = %s", [dead])
    for worker in (living, dead, 2**31 - 1):
        await workers.wait(conn, worker, [])

    await workers.prune(conn, age=timedelta(days=1))

    assert await column(conn, "select worker from qw.idle") == [living]


async def test_a_dead_worker_waits_for_nothing(conn: Connection, rescue: Rescue) -> None:
    await workers.wait(conn, await registered(conn), [])
    await rescue.look_twice()

    assert await value(conn, "select count(*) from qw.idle") == 0


async def test_the_slots_that_a_dead_worker_held_of_a_limited_queue_are_free_after_its_rescue(
    conn: Connection, rescue: Rescue
) -> None:
    await conn.execute("insert into qw.queue (name, concurrency) values ('narrow', 1)")
    first, second = [await enqueued(conn, new_task(queue="narrow")) for _ in range(2)]
    await queues.admit(conn, "narrow", limit=10, place="")
    await claimed(conn, await registered(conn))
    await rescue.look_twice()
    await queues.admit(conn, "narrow", limit=10, place="")

    assert await homes(conn, first[0]) == ["ready"]  # in its old place, with the only slot
    assert await homes(conn, second[0]) == ["held"]
    [again] = await claimed(conn, await registered(conn))
    await claims.end(conn, [ended(again)])
    await queues.admit(conn, "narrow", limit=10, place="")
    assert await homes(conn, second[0]) == ["ready"]
