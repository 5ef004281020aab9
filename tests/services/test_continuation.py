from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import psycopg
import pytest

from qw.client import Client
from qw.core.task import Lane
from qw.core.task.checkpoint import CheckpointKey, CheckpointKind
from qw.core.task.ending import Completed, Suspended
from qw.core.task.payload import Json
from qw.core.workflow import parse_workflow
from qw.handlers import Handlers
from qw.services.execution.worker import Worker
from qw.services.upkeep.continuation import Continuation
from qw.store import checkpoints, claims
from qw.store.connection import Connection, connect
from tests.given import claimed, column, ended, expect_whole, homes, new_task, registered, running, value
from tests.services.workshop import Workshop, workshop

TWO: Json = [{"id": "first", "type": "noop"}, {"id": "second", "type": "noop", "needs": ["first"]}]


class Woken(list[Lane]):
    def __call__(self, lanes: Iterable[Lane]) -> None:
        self.extend(lanes)


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Workshop]:
    """With a worker that serves no-ops."""
    app = Handlers()

    @app.handler("noop")
    async def noop(context: object) -> None:
        pass

    async with workshop(url, app) as shop:
        yield shop


@pytest.fixture
def busy(shop: Workshop) -> Worker:
    """One that claims nothing along."""
    shop.worker.draining = True
    return shop.worker


async def run_of(url: str, steps: Json) -> None:
    async with Client(url, size=1) as client:
        await client.workflows.save(parse_workflow("two", {"steps": steps}))
        await client.runs.start("two")


async def test_the_next_step_starts_in_the_transaction_that_ends_the_one_before(
    url: str, conn: Connection, busy: Worker
) -> None:
    woken = Woken()
    await run_of(url, TWO)
    held = await claimed(conn, await registered(conn))

    mine = await Continuation(busy, woken).end(conn, [ended(claim) for claim in held])

    assert mine == {claim.fence for claim in held}
    assert woken == [Lane("default", 5)]
    assert await value(conn, "select count(distinct xmin::text) from qw.run_step") == 1
    assert await column(conn, "select step from qw.ready join qw.task on id = task_id") == ["second"]
    assert await value(conn, "select count(*) from qw.advance") == 0
    await expect_whole(conn)


async def test_a_run_that_another_session_holds_is_left_to_the_advancer(
    url: str, conn: Connection, busy: Worker
) -> None:
    await run_of(url, TWO)
    held = await claimed(conn, await registered(conn))

    async with await connect(url, name="qw test other") as other, other.transaction():
        await other.execute("select from qw.run for update")
        await Continuation(busy).end(conn, [ended(claim) for claim in held])

    assert await homes(conn, held[0].id) == ["finished"]
    assert await value(conn, "select count(*) from qw.run_step") == 1
    assert await value(conn, "select count(*) from qw.advance") == 1


async def test_an_outcome_is_stored_when_what_follows_from_it_cannot_be(own_url: str) -> None:
    async with await connect(own_url, name="qw test") as conn, workshop(own_url, Handlers()) as shop:
        busy = shop.worker
        await run_of(own_url, TWO)
        held = await claimed(conn, await registered(conn))
        await conn.execute("alter table qw.run_step add check (step <> 'second')")
        woken = Woken()

        mine = await Continuation(busy, woken).end(conn, [ended(claim) for claim in held])

        assert mine == {claim.fence for claim in held}
        assert woken == []
        assert await homes(conn, held[0].id) == ["finished"]
        assert await value(conn, "select count(*) from qw.advance") == 1


async def test_the_items_of_a_foreach_are_left_to_the_advancer(url: str, conn: Connection, busy: Worker) -> None:
    await run_of(url, [TWO[0], {"id": "each", "type": "noop", "needs": ["first"], "foreach": [1, 2]}])  # type: ignore[index]
    held = await claimed(conn, await registered(conn))

    await Continuation(busy).end(conn, [ended(claim) for claim in held])

    assert await value(conn, "select count(*) from qw.run_step") == 1
    assert await value(conn, "select count(*) from qw.advance") == 1


async def calling(conn: Connection) -> tuple[claims.EndedAttempt, claims.EndedAttempt]:
    """The suspension of a task that called another, and the end of that one."""
    [caller] = await running(conn)
    call = (CheckpointKey("", "noop", 1), 1.0, new_task(parent_id=caller.id))
    [checkpoint] = await checkpoints.call(conn, caller.id, caller.fence, [call])
    [called] = await claimed(conn, await registered(conn))
    suspended = ended(caller, Suspended(waits=[checkpoint]))
    return suspended, ended(called, Completed(), parent_id=caller.id)


async def test_a_caller_resumes_in_the_transaction_that_ends_what_it_called(conn: Connection, busy: Worker) -> None:
    suspended, called = await calling(conn)
    woken = Woken()
    continuation = Continuation(busy, woken)

    await continuation.end(conn, [suspended])
    assert await homes(conn, suspended.id) == ["scheduled"]
    await continuation.end(conn, [called])

    assert await homes(conn, suspended.id) == ["ready"]
    assert woken == [Lane("default", 5)]
    assert await value(conn, "select count(*) from qw.wakeup") == 0


async def test_a_caller_resumes_when_what_it_called_ended_before_it_was_suspended(
    conn: Connection, busy: Worker
) -> None:
    suspended, called = await calling(conn)
    continuation = Continuation(busy)

    await continuation.end(conn, [called])
    await continuation.end(conn, [suspended])
    await checkpoints.resume(conn, limit=10)

    assert await homes(conn, suspended.id) == ["ready"]
    assert await value(conn, "select count(*) from qw.wakeup") == 0


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_caller_resumes_when_both_end_at_once(url: str, conn: Connection, busy: Worker, is_first: bool) -> None:
    suspended, called = await calling(conn)
    first, second = (suspended, called) if is_first else (called, suspended)

    async with await connect(url, name="qw test other") as other:
        async with other.transaction():
            await Continuation(busy).end(other, [first])
            await Continuation(busy).end(conn, [second])
        await checkpoints.resume(conn, limit=10)

    assert await homes(conn, suspended.id) == ["ready"]
    assert await value(conn, "select count(*) from qw.wakeup") == 0
    assert await value(conn, "select outcome from qw.checkpoint where kind = %s", CheckpointKind.CALL) == "completed"


IDLE = "insert into qw.idle (queue, worker) values ('*', %s)"


async def test_an_idle_worker_claims_the_next_step_along(url: str, conn: Connection, shop: Workshop) -> None:
    await run_of(url, TWO)
    held = await claimed(conn, await registered(conn))

    await Continuation(shop.worker).end(conn, [ended(claim) for claim in held])

    assert [holding.claim.step for holding in shop.in_flight] == ["second"]
    assert await column(conn, "select worker from qw.running") == [shop.number]
    assert await value(conn, "select count(distinct xmin::text) from qw.run_step") == 1
    await shop.settle()
    assert await column(conn, "select status from qw.run") == ["completed"]
    await expect_whole(conn)


async def test_a_worker_that_knows_of_other_tasks_claims_them_first(url: str, conn: Connection, shop: Workshop) -> None:
    await run_of(url, TWO)
    held = await claimed(conn, await registered(conn))
    shop.worker.woken([Lane("urgent", 0)])

    await Continuation(shop.worker).end(conn, [ended(claim) for claim in held])

    assert len(shop.in_flight) == 0
    assert not shop.lanes.is_empty
    assert await column(conn, "select step from qw.ready join qw.task on id = task_id") == ["second"]


async def test_what_follows_wakes_other_workers_and_not_its_own(url: str, conn: Connection, shop: Workshop) -> None:
    await run_of(url, TWO)
    held = await claimed(conn, other := await registered(conn))
    await conn.execute(IDLE, [shop.number])
    async with await connect(url, name="qw test listener") as listener:
        await listener.execute("listen qw_ready")

        await Continuation(shop.worker).end(conn, [ended(claim) for claim in held])
        assert [notice async for notice in listener.notifies(timeout=0)] == []
        await conn.execute(IDLE, [other])
        await run_of(url, TWO)
        held = await claimed(conn, other)
        await Continuation(shop.worker).end(conn, [ended(claim) for claim in held])
        notices = [notice.payload async for notice in listener.notifies(timeout=10, stop_after=2)]

    assert notices == ["default 5", "default 5"]  # the start of the second run, by its client; and its second step


async def test_claims_of_a_transaction_that_fails_are_not_started(own_url: str) -> None:
    async with await connect(own_url, name="qw test") as conn, workshop(own_url, Handlers()) as shop:
        await run_of(own_url, TWO)
        held = await claimed(conn, await registered(conn))
        await conn.execute(FAILS_LATE)

        with pytest.raises(psycopg.errors.RaiseException):
            await Continuation(shop.worker).end(conn, [ended(claim) for claim in held])

        assert len(shop.in_flight) == 0
        assert await homes(conn, held[0].id) == ["running"]


FAILS_LATE = """
    create function qw.refuse() returns trigger language plpgsql as $$ begin raise exception 'late'; end $$;
    create constraint trigger refuse after insert on qw.finished deferrable initially deferred
      for each row execute function qw.refuse()"""
