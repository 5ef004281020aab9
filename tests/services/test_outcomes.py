from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import orjson
import pytest

from qw.core.errors import Unavailable
from qw.core.task import Claim, Status
from qw.core.task.ending import Completed, Ending, Failed, HandedBack, Outcome, Snoozed, WorkerDied
from qw.handlers import Handlers
from qw.services.execution.in_flight import ClaimInFlight, ClaimState
from qw.store import claims, tasks
from qw.store.claims import EndedAttempt
from qw.store.connection import connect
from qw.store.errors import WrongSchema
from qw.store.ids import new_id
from tests.given import (
    claimed,
    column,
    ended,
    expect_whole,
    homes,
    new_task,
    registered,
    status,
    until_somebody_waits,
    value,
)
from tests.services.workshop import Workshop, workshop


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Workshop]:
    async with workshop(url, Handlers()) as opened:
        yield opened


async def in_flight(shop: Workshop, count: int = 1) -> list[Claim]:
    """Claims that this process holds and has run, their ends still to be written."""
    await shop.enqueue(*(new_task(unique_key=f"key {new_id()}") for _ in range(count)))
    held = await claimed(shop.conn, shop.number)
    for claim in held:
        shop.in_flight.add(ClaimInFlight(claim=claim, handler=None, state=ClaimState.ENDING))
    return held


async def write(shop: Workshop, *ends: EndedAttempt) -> None:
    for end in ends:
        shop.outcomes.add(end)
    await shop.until(lambda: not len(shop.outcomes))


async def history(shop: Workshop) -> list[str]:
    return await column(shop.conn, "select outcome from qw.attempt order by ended_at")


async def test_what_was_written_is_held_no_longer(shop: Workshop) -> None:
    [claim] = await in_flight(shop)

    await write(shop, ended(claim, Completed(result=1)))

    assert len(shop.in_flight) == 0
    assert await status(shop.conn, claim.id) == "completed"


async def test_whoever_cares_is_told_of_each_end(url: str, shop: Workshop) -> None:
    told: list[EndedAttempt] = []
    shop.outcomes._ended = told.extend
    [claim] = await in_flight(shop)

    await write(shop, ended(claim))

    assert [e.id for e in told] == [claim.id]


async def test_a_result_after_its_lease_was_lost_is_recorded_and_written_nowhere_else(shop: Workshop) -> None:
    [claim] = await in_flight(shop)
    await claims.end(shop.conn, [ended(claim, WorkerDied(worker=shop.number))])
    [current] = await claimed(shop.conn, await registered(shop.conn))

    await write(shop, ended(claim, Completed(result="late")))

    assert await homes(shop.conn, claim.id) == ["running"]
    assert await value(shop.conn, "select fence from qw.running") == current.fence
    [died, lost] = await tasks.attempts(shop.conn, claim.id)
    assert (died.outcome, lost.outcome, lost.result) == ("worker_died", "lease_lost", "late")
    assert len(shop.in_flight) == 0
    await expect_whole(shop.conn)


async def test_what_never_ran_loses_nothing_with_its_lease(shop: Workshop) -> None:
    [claim] = await in_flight(shop)
    await claims.end(shop.conn, [ended(claim, WorkerDied(worker=1))])

    await write(shop, ended(claim, HandedBack(), seconds=None))

    assert await history(shop) == ["worker_died"]


IN_DOUBT: list[Outcome] = [
    Completed(result="x"), Failed(error="x"), Failed(error="x", final=True),
    Snoozed(delay=timedelta(hours=1)), HandedBack(),
]  # fmt: skip


@pytest.mark.parametrize("outcome", IN_DOUBT, ids=lambda o: type(o).__name__)
async def test_an_end_whose_commit_was_in_doubt_is_found_and_not_called_lost(shop: Workshop, outcome: Outcome) -> None:
    """The statement was stored, its answer never came: written again, the fence refuses it."""
    [claim] = await in_flight(shop)
    end = ended(claim, outcome)
    await claims.end(shop.conn, [end])
    shop.outcomes.doubt(claim.fence)
    before = await history(shop)

    await write(shop, end)

    assert await history(shop) == before
    assert "lease_lost" not in before
    assert len(shop.in_flight) == 0
    await expect_whole(shop.conn)


async def test_a_session_killed_at_the_write_loses_no_outcome(shop: Workshop) -> None:
    held = await in_flight(shop, 3)
    async with shop.links["outcomes"].use():
        pass  # open, so that it can be killed
    await shop.kill_session("outcomes")
    for claim in held:
        shop.outcomes.add(ended(claim))

    with pytest.raises(Unavailable):
        await shop.outcomes.step()
    assert len(shop.outcomes) == 3
    await shop.until(lambda: not len(shop.outcomes))

    assert [await status(shop.conn, claim.id) for claim in held] == ["completed"] * 3
    assert await history(shop) == []
    await expect_whole(shop.conn)


async def test_a_session_killed_while_the_write_waits_for_a_lock(url: str, shop: Workshop) -> None:
    [claim] = await in_flight(shop)
    async with await connect(url, name="qw test lock") as holder:
        await holder.execute("begin; select 1 from qw.running for update")
        shop.outcomes.add(ended(claim))
        writing = asyncio.create_task(shop.outcomes.step())
        await until_somebody_waits(shop.conn)
        await shop.kill_session("outcomes")
        with pytest.raises(Unavailable):
            await writing
        await holder.execute("rollback")
    await shop.until(lambda: not len(shop.outcomes))

    assert await status(shop.conn, claim.id) == "completed"
    assert await history(shop) == []


async def test_an_end_that_is_truly_lost_is_recorded_even_after_a_doubt(shop: Workshop) -> None:
    [claim] = await in_flight(shop)
    await claims.end(shop.conn, [ended(claim, WorkerDied(worker=1))])
    shop.outcomes.doubt(claim.fence)

    await write(shop, ended(claim, Completed(result="late")))

    assert await history(shop) == ["worker_died", "lease_lost"]


WRONG = Ending(status=Status.FAILED, retries=1, crashes=0)  # without an error: a check constraint forbids it


@pytest.mark.parametrize("place", [0, 3, 6])
async def test_one_refused_outcome_fails_alone(shop: Workshop, place: int) -> None:
    held = await in_flight(shop, 7)
    ends = [ended(claim, Completed(result=n)) for n, claim in enumerate(held)]
    ends[place] = ends[place]._replace(ending=WRONG)

    await write(shop, *ends)

    statuses = [await status(shop.conn, claim.id) for claim in held]
    assert statuses == ["failed" if n == place else "completed" for n in range(7)]
    assert "the database rejected the outcome" in await value(
        shop.conn, "select error from qw.finished where status = 'failed'"
    )
    assert await history(shop) == []
    await expect_whole(shop.conn)


async def test_plain_completions_beside_a_refused_end_are_not_called_lost(shop: Workshop) -> None:
    """They are stored first, by a statement of their own; the halves that are tried again hold them too."""
    await shop.enqueue(*(new_task() for _ in range(4)))
    held = await claimed(shop.conn, shop.number)
    ends = [ended(claim) for claim in held]
    ends[1] = ends[1]._replace(ending=WRONG)

    await write(shop, *ends)

    assert sorted([await status(shop.conn, claim.id) for claim in held]) == ["completed"] * 3 + ["failed"]
    assert await history(shop) == []
    await expect_whole(shop.conn)


async def test_an_outcome_larger_than_any_limit_of_the_database_fails_its_task(shop: Workshop) -> None:
    good, bad = await in_flight(shop, 2)
    deep = "[" * 40_000 + "]" * 40_000
    ends = [ended(good), ended(bad, Completed(result=orjson.Fragment(deep.encode())))]  # type: ignore[arg-type]

    await write(shop, *ends)

    assert await status(shop.conn, good.id) == "completed"
    assert await status(shop.conn, bad.id) == "failed"
    assert await history(shop) == []


async def test_an_outcome_that_cannot_even_be_written_down_fails_alone(shop: Workshop) -> None:
    good, bad, other = await in_flight(shop, 3)
    ends = [ended(good), ended(bad, Completed(result=object())), ended(other)]  # type: ignore[arg-type]

    await write(shop, *ends)

    assert [await status(shop.conn, claim.id) for claim in (good, bad, other)] == ["completed", "failed", "completed"]
    error = await value(shop.conn, "select error from qw.finished where status = 'failed'")
    assert error.startswith("the outcome could not be written: TypeError: ")
    assert await history(shop) == []


async def test_an_end_that_is_refused_in_every_form_holds_up_no_other(shop: Workshop) -> None:
    """As a trigger of somebody's does."""
    bad, *good = await in_flight(shop, 4)
    await shop.conn.execute(
        "create function public.refuse() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$;"
        "create trigger refuse before insert on qw.finished for each row"
        f" when (new.task_id = '{bad.id}') execute function public.refuse()"
    )
    try:
        for claim in (bad, *good):
            shop.outcomes.add(ended(claim))
        with pytest.raises(Unavailable, match="not this one"):
            await shop.outcomes.step()

        assert [await status(shop.conn, claim.id) for claim in good] == ["completed"] * 3
        assert len(shop.outcomes) == 1
    finally:
        await shop.conn.execute("drop function public.refuse cascade")
    await shop.until(lambda: not len(shop.outcomes))
    assert await status(shop.conn, bad.id) == "failed"


async def test_those_who_wait_for_ends_cannot_keep_them_from_being_over(shop: Workshop) -> None:
    def broken(ended: object) -> None:
        raise RuntimeError

    shop.outcomes._ended = broken
    [claim] = await in_flight(shop)

    await write(shop, ended(claim))

    assert (len(shop.in_flight), await status(shop.conn, claim.id)) == (0, "completed")


async def test_a_lone_outcome_is_written_at_once_and_many_in_batches(shop: Workshop) -> None:
    held = await in_flight(shop, 100)
    for claim in held:
        shop.outcomes.add(ended(claim))

    assert shop.outcomes.bell.is_set()
    assert await shop.outcomes.step() is False
    assert len(shop.outcomes) == 0
    assert await shop.outcomes.step() is False


async def test_outcomes_are_kept_while_the_database_takes_no_writes(shop: Workshop) -> None:
    [claim] = await in_flight(shop)
    async with shop.links["outcomes"].use() as conn:
        await conn.execute("set default_transaction_read_only = on")
    shop.outcomes.add(ended(claim))

    with pytest.raises(Unavailable, match="read-only"):
        await shop.outcomes.step()
    await shop.until(lambda: not len(shop.outcomes))

    assert await status(shop.conn, claim.id) == "completed"


async def test_an_outcome_waits_while_a_table_that_it_needs_is_missing(own_url: str) -> None:
    async with workshop(own_url, Handlers()) as shop:
        [claim] = await in_flight(shop)
        await shop.conn.execute("alter table qw.tally rename to elsewhere")
        shop.outcomes.add(ended(claim))
        with pytest.raises(WrongSchema):
            await shop.outcomes.step()
        await shop.conn.execute("alter table qw.elsewhere rename to tally")

        await shop.until(lambda: not len(shop.outcomes))

        assert await status(shop.conn, claim.id) == "completed"
