from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from qw.core.task.handler_api import Context
from qw.handlers import HandlerKind, Handlers
from qw.services.execution import unserved
from qw.services.execution.in_flight import ClaimState, Stop
from qw.store import claims, tasks, workers
from qw.store.connection import Connection, connect
from tests.given import column, expect_whole, homes, new_task, registered, status, until_somebody_waits, value
from tests.services.workshop import SLOTS, Workshop, workshop


class Gate:
    """Handlers that wait until they are let go: ``t`` asynchronous, ``thread`` in threads."""

    def __init__(self) -> None:
        self.app = Handlers()
        self.open = asyncio.Event()
        self.thread_open = threading.Event()
        self.inside = 0
        self.app.handler("t")(self._handle)
        self.app.handler("thread")(self._block)

    async def _handle(self) -> str:
        self.inside += 1
        await self.open.wait()
        return "through"

    def _block(self) -> str:
        self.thread_open.wait(10)
        return "through"

    def let_go(self) -> None:
        self.open.set()
        self.thread_open.set()


async def inside(shop: Workshop, gate: Gate, count: int) -> None:
    await shop.until(lambda: gate.inside == count)


async def test_no_more_is_claimed_than_can_start(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app, dict.fromkeys(HandlerKind, 2)) as shop:
        ids = await shop.enqueue(*(new_task("t") for _ in range(5)))
        await shop.claim()
        await inside(shop, gate, 2)
        await shop.claim()

        assert [await status(shop.conn, id) for id in ids] == ["processing"] * 2 + ["pending"] * 3
        gate.let_go()
        await shop.settle()
        async with asyncio.timeout(60):
            while await value(shop.conn, "select exists (select 1 from qw.ready)"):
                await shop.claim()
                await shop.settle()
        assert await column(shop.conn, "select distinct status from qw.tasks") == ["completed"]
        assert gate.inside == 5


async def test_a_worker_is_behind_while_its_claims_leave_tasks_behind(url: str) -> None:
    gate = Gate()
    gate.let_go()
    async with workshop(url, gate.app, dict.fromkeys(HandlerKind, 2)) as shop:
        await shop.enqueue(*(new_task("t") for _ in range(3)))

        await shop.claim()
        with_more = shop.worker.is_behind
        await shop.settle()
        await shop.claim()
        with_the_last = shop.worker.is_behind
        await shop.settle()

    assert (with_more, with_the_last) == (True, False)


async def test_a_claim_that_found_no_slot_in_a_second_goes_back_to_its_place_at_no_cost(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        ids = await shop.enqueue(*(new_task("thread") for _ in range(6)))
        await shop.claim()
        waiting = [holding for holding in shop.in_flight if holding.state is ClaimState.WAITING]
        assert [holding.claim.id for holding in waiting] == ids[4:]
        seqs = [holding.claim.seq for holding in waiting]
        for holding in waiting:
            holding.since -= 2

        await shop.worker.step()
        await shop.until(lambda: not len(shop.outcomes))

        assert await column(shop.conn, "select seq from qw.ready order by seq") == seqs
        assert await column(shop.conn, "select distinct (attempt, retries, crashes)::text from qw.ready") == ["(0,0,0)"]
        gate.let_go()
        await shop.settle()
        await expect_whole(shop.conn)


async def test_while_one_kind_is_full_the_others_are_still_found_behind_it(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        await shop.enqueue(*(new_task("thread") for _ in range(20)))
        await shop.claim()
        for holding in shop.in_flight:
            holding.since -= 2
        await shop.worker.step()
        await shop.until(lambda: not len(shop.outcomes))
        [behind] = await shop.enqueue(new_task("t"))

        await shop.claim()
        await inside(shop, gate, 1)

        assert await status(shop.conn, behind) == "processing"
        assert await column(shop.conn, "select count(*) from qw.running") == [5]
        gate.let_go()
        await shop.settle()


async def test_a_full_kind_does_not_keep_the_others_from_their_slots(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app, dict.fromkeys(HandlerKind, 1)) as shop:
        await shop.enqueue(new_task("t"), new_task("t"))
        await shop.claim()
        [behind] = await shop.enqueue(new_task("thread"))

        await shop.claim()

        assert await status(shop.conn, behind) == "processing"
        assert await column(shop.conn, "select count(*) from qw.ready") == [1]
        gate.let_go()
        await shop.settle()


async def test_a_type_that_nobody_serves_is_parked_without_cost_and_said_once(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with workshop(url, Handlers()) as shop:
        one, two = await shop.run(new_task("unknown"), new_task("unknown"))

        assert {(t.status, t.attempt, t.retries, t.reason) for t in (one, two)} == {("pending", 0, 0, "unserved")}
        assert one.run_at is not None
        assert timedelta(seconds=4) < one.run_at - one.created_at < timedelta(seconds=10)
        assert [r.message for r in caplog.records].count("no handler for this task type; its tasks are parked") == 1
        assert await column(shop.conn, "select count(*) from qw.attempt") == [0]
        await claims.release_unserved(shop.conn, ["unknown"])
        assert await homes(shop.conn, one.id) == ["ready"]


async def test_a_type_that_another_worker_serves_is_left_to_it_while_it_lives(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        other = await registered(shop.conn)
        await shop.conn.execute("update qw.worker set types = '{foreign}' where id = %s", [other])
        foreign, *_ = await shop.enqueue(*(new_task("foreign") for _ in range(3)))
        await shop.claim()
        await shop.until(lambda: not len(shop.outcomes))
        assert await homes(shop.conn, foreign) == ["ready"]
        assert await column(shop.conn, "select distinct (attempt, retries, crashes)::text from qw.ready") == ["(0,0,0)"]

        [mine] = await shop.enqueue(new_task("t"))
        await shop.claim()  # of the lane that the others stand in
        assert await status(shop.conn, mine) == "processing"
        assert await column(shop.conn, "select count(*) from qw.running") == [1]

        await shop.conn.execute("update qw.worker set stopped_at = now() where id = %s", [other])
        monkeypatch.setattr(unserved, "LOOK_SECONDS", 0.0)
        async with asyncio.timeout(60):  # the first looks may be past the cursor
            while await homes(shop.conn, foreign) != ["scheduled"]:
                await shop.claim()
                await shop.until(lambda: not len(shop.outcomes))
        gate.let_go()
        await shop.settle()


async def test_what_is_handed_back_wakes_who_waits_for_its_lane(url: str) -> None:
    async with workshop(url, Handlers()) as shop, await connect(url) as ear:
        await shop.conn.execute("update qw.worker set types = '{foreign}' where id = %s", [await registered(shop.conn)])
        await ear.execute("listen qw_ready")
        await shop.enqueue(new_task("foreign"))
        await shop.conn.execute("insert into qw.idle (queue, worker) values ('*', %s)", [shop.number])

        await shop.claim()
        await shop.settle()

        told = [notify.payload async for notify in ear.notifies(timeout=10, stop_after=1)]
        assert told == ["default 5"]


async def test_an_old_task_of_an_unserved_type_is_parked_for_longer(url: str) -> None:
    async with workshop(url, Handlers()) as shop:
        [id] = await shop.enqueue(new_task("unknown"))
        old = await value(shop.conn, "select overlay(%s::text placing '01900000-0000' from 1 for 13)::uuid", id)
        await shop.conn.execute("update qw.task set id = %s", [old])
        await shop.conn.execute("update qw.ready set task_id = %s", [old])
        await shop.claim()
        await shop.settle()

        wait = await value(shop.conn, "select run_at - now() from qw.scheduled")
        assert timedelta(minutes=9) < wait <= timedelta(minutes=10)


async def test_suspects_run_one_at_a_time_and_the_others_are_not_even_claimed(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        suspects = await shop.enqueue(*(new_task("t") for _ in range(3)))
        [innocent] = await shop.enqueue(new_task("t"))
        await shop.conn.execute("update qw.ready set crashes = 2 where task_id = any(%s)", [suspects])
        await shop.claim()
        await shop.until(lambda: not len(shop.outcomes))
        await shop.worker.step()
        await inside(shop, gate, 2)

        held = await column(shop.conn, "select task_id from qw.running")
        assert innocent in held
        assert len(set(held) & set(suspects)) == 1
        await shop.claim()
        assert await column(shop.conn, "select count(*) from qw.running where crashes = 2") == [1]

        gate.let_go()
        async with asyncio.timeout(60):
            while await value(shop.conn, "select exists (select 1 from qw.ready)"):
                await shop.settle()
                await shop.claim()
        await shop.settle()
        assert await column(shop.conn, "select distinct status from qw.tasks") == ["completed"]


async def crashed_together(conn: Connection, *groups: Sequence[UUID]) -> None:
    """Each group was in the same two processes when they ended."""
    for group in groups:
        for _ in range(2):
            worker = await registered(conn)
            await conn.execute("update qw.worker set dead_at = now(), death = 'crashed' where id = %s", [worker])
            await conn.execute(
                "insert into qw.attempt (task_id, fence, outcome, attempt, worker, error)"
                " select i, nextval('qw.fence_seq'), 'worker_died', 1, %s, 'died' from unnest(%s::uuid[]) i",
                [worker, list(group)],
            )
        await conn.execute("update qw.ready set crashes = 2 where task_id = any(%s)", [list(group)])


async def test_suspects_that_never_crashed_together_run_at_the_same_time(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        groups = [await shop.enqueue(*(new_task("t") for _ in range(3))) for _ in range(2)]
        await crashed_together(shop.conn, *groups)
        async with asyncio.timeout(60):
            while gate.inside < 2:
                await shop.claim()
                await shop.until(lambda: not len(shop.outcomes))
        for _ in range(3):
            await shop.claim()
            await shop.until(lambda: not len(shop.outcomes))

        running = await column(shop.conn, "select task_id from qw.running")
        assert [len(set(running) & set(group)) for group in groups] == [1, 1]
        gate.let_go()
        async with asyncio.timeout(60):
            while await value(shop.conn, "select exists (select 1 from qw.ready)"):
                await shop.settle()
                await shop.claim()
        await shop.settle()


async def test_the_innocent_run_together_once_another_was_failed_for_their_crashes(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        poison, *innocent = await shop.enqueue(*(new_task("t") for _ in range(25)))
        await crashed_together(shop.conn, [poison, *innocent])
        await shop.conn.execute("delete from qw.ready where task_id = %s", [poison])
        await workers.explain_crashes(shop.conn, poison)
        async with asyncio.timeout(60):
            while gate.inside < 24:
                await shop.claim()
                await shop.until(lambda: not len(shop.outcomes))

        gate.let_go()
        await shop.settle()
        assert await column(shop.conn, "select distinct crashes from qw.finished") == [2]


async def test_a_suspect_starts_only_when_the_others_are_back_in_their_place(url: str) -> None:
    """A daemon that dies takes every task with it that it holds, started or not."""
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        await shop.enqueue(*(new_task("t") for _ in range(3)))
        await shop.conn.execute("update qw.ready set crashes = 2")
        await shop.claim()
        await asyncio.sleep(0)

        assert gate.inside == 0
        assert await column(shop.conn, "select count(*) from qw.running") == [3]
        await shop.until(lambda: not len(shop.outcomes))
        await shop.worker.step()
        await inside(shop, gate, 1)
        assert await column(shop.conn, "select count(*) from qw.running") == [1]
        gate.let_go()
        await shop.settle()


async def test_nothing_starts_without_a_lease(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        shop.lease.revoke()
        await shop.claim()
        assert await homes(shop.conn, id) == ["ready"]


async def test_a_claim_whose_lease_ran_out_before_the_start_goes_back(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop, await_lock(shop) as unlock:
        [id] = await shop.enqueue(new_task("t"))
        claiming = asyncio.create_task(shop.claim())
        await until_somebody_waits(shop.conn)
        shop.lease.revoke()
        await unlock()
        await claiming
        await shop.settle()

        assert await homes(shop.conn, id) == ["ready"]
        assert gate.inside == 0
        assert await column(shop.conn, "select (attempt, crashes)::text from qw.ready") == ["(0,0)"]


async def test_a_claim_made_under_an_identity_that_died_is_not_started_under_the_next(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop, await_lock(shop) as unlock:
        [id] = await shop.enqueue(new_task("t"))
        claiming = asyncio.create_task(shop.claim())
        await until_somebody_waits(shop.conn)
        shop.number = await registered(shop.conn)
        await unlock()
        await claiming

        assert await homes(shop.conn, id) == ["running"]  # until somebody rescues it
        assert (len(shop.in_flight), gate.inside) == (0, 0)


async def test_a_claim_that_arrives_during_the_drain_goes_back(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop, await_lock(shop) as unlock:
        [id] = await shop.enqueue(new_task("t"))
        claiming = asyncio.create_task(shop.claim())
        await until_somebody_waits(shop.conn)
        shop.worker.draining = True
        shop.worker.return_unstarted()
        await unlock()
        await claiming
        await shop.settle()

        assert await homes(shop.conn, id) == ["ready"]
        assert gate.inside == 0


async def test_a_draining_worker_claims_nothing(url: str) -> None:
    async with workshop(url, Gate().app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        shop.worker.draining = True
        await shop.claim()

        assert await homes(shop.conn, id) == ["ready"]


async def test_a_revoked_claim_is_not_run_when_it_turns_up_late(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        await shop.enqueue(new_task("t"))
        fence = await value(shop.conn, "select nextval('qw.fence_seq')")
        shop.in_flight.revoke(range(fence, fence + 1000))
        await shop.claim()

        assert len(shop.in_flight) == 0
        assert gate.inside == 0


async def test_a_cancel_reaches_what_runs_and_what_waits_for_a_slot(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app, {**SLOTS, HandlerKind.THREAD: 1}) as shop:
        runs, stays, waits = await shop.enqueue(new_task("t"), new_task("thread"), new_task("thread"))
        await shop.claim()
        await inside(shop, gate, 1)

        shop.worker.interrupt({runs: "enough", waits: "enough"})
        await shop.until(lambda: len(shop.in_flight) == 1)

        assert [await status(shop.conn, id) for id in (runs, stays, waits)] == ["cancelled", "processing", "cancelled"]
        assert await column(shop.conn, "select distinct error from qw.finished") == ["enough"]
        gate.let_go()
        await shop.settle()
        await expect_whole(shop.conn)


async def test_a_task_that_was_cancelled_on_its_way_is_not_started(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.conn.execute("insert into qw.cancel_request (task_id, running) values (%s, true)", [id])
        await shop.claim()
        await shop.settle()

        assert (await status(shop.conn, id), gate.inside) == ("cancelled", 0)


async def test_a_handler_that_is_told_to_stop_before_its_first_step_gives_everything_back(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        shop.worker.interrupt_all(Stop.LEASE, "the lease expired")  # in the same turn of the loop
        await shop.settle()

        assert await homes(shop.conn, id) == ["ready"]
        assert shop.worker.running == 0


@pytest.mark.parametrize("stop", [Stop.LEASE, Stop.CANCEL])
async def test_a_stop_after_the_handler_came_back_does_not_lose_its_outcome(url: str, stop: Stop) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> str:
        await context.log("the last line")
        return "done"

    async with workshop(url, app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        [holding] = shop.in_flight
        for _ in range(5):  # its log line waits to be written, and it for the line
            await asyncio.sleep(0)
        holding.interrupt(stop, "too late")
        await shop.settle()

        task = await shop.task(id)
        assert (task.status, task.result) == ("completed", "done")


async def test_the_log_of_an_attempt_is_there_when_its_end_is(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> None:
        await context.log("one\ntwo\0")
        raise ValueError("three")

    async with workshop(url, app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        for _ in range(20):
            await shop.outcomes.step()
            await asyncio.sleep(0)
        assert await status(shop.conn, id) == "processing"
        await shop.settle()

        lines = [line.message for line in await tasks.read_logs(shop.conn, id)]
        assert lines[:2] == ["one", "two\ufffd"]
        assert lines[-1] == "ValueError: three"


async def test_who_finds_nothing_says_that_it_waits_and_looks_once_more(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        await shop.worker.step()
        assert await column(shop.conn, "select queue from qw.idle") == ["*"]
        await shop.worker.step()
        [id] = await shop.enqueue(new_task("t"))
        assert not shop.worker.bell.is_set()

        shop.worker.forget_waiting()
        assert await shop.worker.step()
        await shop.worker.step()

        assert await status(shop.conn, id) == "processing"
        gate.let_go()
        await shop.settle()


async def test_news_of_a_lane_rings_the_bell_only_where_it_is_served(url: str) -> None:
    async with workshop(url, Gate().app) as shop:
        shop.worker.woken([])
        assert not shop.worker.bell.is_set()
        await shop.enqueue(new_task("t", queue="q"))
        shop.worker.woken(await claims.lanes(shop.conn))
        assert shop.worker.bell.is_set()


async def test_quick_tasks_are_claimed_ahead_and_slow_ones_are_not(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle() -> None: ...

    async with workshop(url, app, {**SLOTS, HandlerKind.ASYNC: 10}) as shop:
        await tasks.enqueue_many(shop.conn, [new_task("t") for _ in range(600)])
        await shop.claim()
        assert len(shop.in_flight) == 10
        deadline = time.monotonic() + 10
        most = 0
        while await value(shop.conn, "select exists (select 1 from qw.ready)"):
            assert time.monotonic() < deadline
            await shop.claim()
            most = max(most, len(shop.in_flight))
            await shop.settle()

        assert most > 50


class await_lock:
    """Holds the table that claims come from, until `unlock`."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    async def __aenter__(self):  # type: ignore[no-untyped-def]
        from qw.store.connection import connect

        self._conn = await connect(self._shop.url, name="qw test lock")
        await self._conn.execute("begin; lock table qw.running")
        return self._unlock

    async def _unlock(self) -> None:
        await self._conn.execute("rollback")

    async def __aexit__(self, *exc: object) -> None:
        await self._conn.close()


async def test_a_worker_that_is_dead_gets_nothing_and_does_not_mind(url: str) -> None:
    async with workshop(url, Gate().app) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.conn.execute("update qw.worker set dead_at = now()")
        await shop.claim()
        assert await homes(shop.conn, id) == ["ready"]
        shop.number = await registered(shop.conn)
        await shop.claim()
        assert await status(shop.conn, id) == "processing"
