from __future__ import annotations

from collections.abc import Iterable

import pytest

from qw.client import Client
from qw.core.task import Lane
from qw.core.task.checkpoint import CheckpointKey, CheckpointKind
from qw.core.task.ending import Completed, Suspended
from qw.core.task.payload import Json
from qw.core.workflow import parse_workflow
from qw.services.upkeep.continuation import Continuation
from qw.store import checkpoints, claims
from qw.store.connection import Connection, connect
from tests.given import claimed, column, ended, expect_whole, homes, new_task, registered, running, value

TWO: Json = [{"id": "first", "type": "noop"}, {"id": "second", "type": "noop", "needs": ["first"]}]


class Woken(list[Lane]):
    def __call__(self, lanes: Iterable[Lane]) -> None:
        self.extend(lanes)


async def run_of(url: str, steps: Json) -> None:
    async with Client(url, size=1) as client:
        await client.workflows.save(parse_workflow("two", {"steps": steps}))
        await client.runs.start("two")


async def test_the_next_step_starts_in_the_transaction_that_ends_the_one_before(url: str, conn: Connection) -> None:
    woken = Woken()
    await run_of(url, TWO)
    held = await claimed(conn, await registered(conn))

    mine = await Continuation(woken).end(conn, [ended(claim) for claim in held])

    assert mine == {claim.fence for claim in held}
    assert woken == [Lane("default", 5)]
    assert await value(conn, "select count(distinct xmin::text) from qw.run_step") == 1
    assert await column(conn, "select step from qw.ready join qw.task on id = task_id") == ["second"]
    assert await value(conn, "select count(*) from qw.advance") == 0
    await expect_whole(conn)


async def test_a_run_that_another_session_holds_is_left_to_the_advancer(url: str, conn: Connection) -> None:
    await run_of(url, TWO)
    held = await claimed(conn, await registered(conn))

    async with await connect(url, name="qw test other") as other, other.transaction():
        await other.execute("select from qw.run for update")
        await Continuation(Woken()).end(conn, [ended(claim) for claim in held])

    assert await homes(conn, held[0].id) == ["finished"]
    assert await value(conn, "select count(*) from qw.run_step") == 1
    assert await value(conn, "select count(*) from qw.advance") == 1


async def test_an_outcome_is_stored_when_what_follows_from_it_cannot_be(own_url: str) -> None:
    async with await connect(own_url, name="qw test") as conn:
        await run_of(own_url, TWO)
        held = await claimed(conn, await registered(conn))
        await conn.execute("alter table qw.run_step add check (step <> 'second')")
        woken = Woken()

        mine = await Continuation(woken).end(conn, [ended(claim) for claim in held])

        assert mine == {claim.fence for claim in held}
        assert woken == []
        assert await homes(conn, held[0].id) == ["finished"]
        assert await value(conn, "select count(*) from qw.advance") == 1


async def test_the_items_of_a_foreach_are_left_to_the_advancer(url: str, conn: Connection) -> None:
    await run_of(url, [TWO[0], {"id": "each", "type": "noop", "needs": ["first"], "foreach": [1, 2]}])  # type: ignore[index]
    held = await claimed(conn, await registered(conn))

    await Continuation(Woken()).end(conn, [ended(claim) for claim in held])

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


async def test_a_caller_resumes_in_the_transaction_that_ends_what_it_called(conn: Connection) -> None:
    suspended, called = await calling(conn)
    woken = Woken()
    continuation = Continuation(woken)

    await continuation.end(conn, [suspended])
    assert await homes(conn, suspended.id) == ["scheduled"]
    await continuation.end(conn, [called])

    assert await homes(conn, suspended.id) == ["ready"]
    assert woken == [Lane("default", 5)]
    assert await value(conn, "select count(*) from qw.wakeup") == 0


async def test_a_caller_resumes_when_what_it_called_ended_before_it_was_suspended(conn: Connection) -> None:
    suspended, called = await calling(conn)
    continuation = Continuation(Woken())

    await continuation.end(conn, [called])
    await continuation.end(conn, [suspended])

    assert await homes(conn, suspended.id) == ["ready"]
    assert await value(conn, "select count(*) from qw.wakeup") == 0


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_caller_resumes_when_both_end_at_once(url: str, conn: Connection, is_first: bool) -> None:
    suspended, called = await calling(conn)
    first, second = (suspended, called) if is_first else (called, suspended)

    async with await connect(url, name="qw test other") as other:
        async with other.transaction():
            await Continuation(Woken()).end(other, [first])
            await Continuation(Woken()).end(conn, [second])
        await checkpoints.resume(conn, limit=10)

    assert await homes(conn, suspended.id) == ["ready"]
    assert await value(conn, "select count(*) from qw.wakeup") == 0
    assert await value(conn, "select outcome from qw.checkpoint where kind = %s", CheckpointKind.CALL) == "completed"
