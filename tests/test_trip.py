"""A task's way, as a tour of the code: words → NewTask → row → Task → handler → Outcome → Ending → row."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from qw.core.errors import Invalid
from qw.core.task import Claim, NewTask, Policy, Status, check_new
from qw.core.task.ending import Completed, Failed, end
from qw.core.task.handler_api import Context, Retry
from qw.core.task.payload import parse_object
from qw.handlers import Handlers
from qw.services.execution.attempt import attempt
from qw.services.execution.context import AttemptContext
from qw.services.execution.in_flight import ClaimInFlight
from qw.store import claims, tasks
from qw.store.claims import EndedAttempt, Share
from qw.store.connection import Connection
from qw.store.handler_transaction import HandlerTransactions
from qw.store.ids import new_id
from qw.store.pool import Pool
from tests.given import homes, registered

app = Handlers()


@app.handler("greet", max_retries=2)
async def greet(name: str, *, context: Context) -> dict[str, str]:
    """The second time it works."""
    if context.attempt == 1:
        raise Retry("nobody at home", after=0)
    return {"said": f"Hello {name}"}


def from_words(type: str, payload: str) -> NewTask:
    task = NewTask(type=type, id=new_id(), payload=parse_object(payload))
    check_new(task)
    return task


async def claim_one(conn: Connection, worker: int) -> Claim:
    [lane] = await claims.lanes(conn)
    [claim] = await claims.claim(conn, worker, [Share(lane, -1, 1)], room=1)
    return claim


def as_ended(claim: Claim, outcome: Completed | Failed, policy: Policy) -> EndedAttempt:
    ending = end(outcome, retries=claim.retries, crashes=claim.crashes, policy=policy, chance=random.random())
    return EndedAttempt(id=claim.id, fence=claim.fence, attempt=claim.attempt, ending=ending, seconds=0.01)


async def test_a_tasks_way(url: str, conn: Connection, pool: Pool) -> None:
    async def no_log(lines: object) -> None: ...

    def seen_from_within(claim: Claim) -> AttemptContext:
        return AttemptContext(claim, pool, HandlerTransactions(url, size=1), no_log, timedelta(minutes=1))

    worker, handler = await registered(conn), app.get("greet")
    assert handler is not None
    task = from_words("greet", '{"name": "Zoë"}')  # words → NewTask

    assert await tasks.enqueue(conn, [task]) == {task.id}  # → row
    assert await homes(conn, task.id) == ["ready"]

    first = await claim_one(conn, worker)  # → Claim
    assert await homes(conn, task.id) == ["running"]
    outcome = await attempt(ClaimInFlight(claim=first, handler=handler), seen_from_within(first))  # → Outcome
    assert outcome == Failed(
        error="nobody at home", names=("Retry", "Exception", "BaseException"), after=timedelta(0), kind="Retry"
    )

    failed = as_ended(first, outcome, handler.policy)  # → Ending
    assert (failed.ending.status, failed.ending.retries, failed.ending.outcome) == (Status.RETRYING, 1, "error")
    await claims.end(conn, [failed])  # → row
    assert await homes(conn, task.id) == ["scheduled"]
    await claims.promote(conn, cursor=(await tasks.get(conn, [task.id]))[0].created_at, limit=1)

    second = await claim_one(conn, worker)
    assert (second.attempt, second.retries, second.fence != first.fence) == (2, 1, True)
    outcome = await attempt(ClaimInFlight(claim=second, handler=handler), seen_from_within(second))
    assert outcome == Completed(result={"said": "Hello Zoë"})
    await claims.end(conn, [as_ended(second, outcome, handler.policy)])

    [seen] = await tasks.get(conn, [task.id])  # → Task
    assert (seen.status, seen.result, seen.attempt, seen.retries) == ("completed", {"said": "Hello Zoë"}, 2, 1)
    assert [(a.outcome, a.error) for a in await tasks.attempts(conn, task.id)] == [("error", "nobody at home")]
    assert await claims.end(conn, [as_ended(first, Completed(), handler.policy)]) == set()  # the fence is gone


def test_words_that_make_no_task_are_refused_with_their_place() -> None:
    for type, payload, place in (("no spaces", "{}", "type"), ("t", "[1]", "payload"), ("t", '{"a": NaN}', "payload")):
        with pytest.raises(Invalid) as caught:
            from_words(type, payload)
        assert caught.value.faults[0].path == place
