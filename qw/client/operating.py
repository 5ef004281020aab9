"""What operators ask and do, over a client: why a task waits, pausing queues, draining workers, mending in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from qw.client import Client
from qw.core.errors import Invalid, NotFound, guess
from qw.core.firing import LATE
from qw.core.task import NewTask, check_new
from qw.core.why import Reason, RunFacts, StepFacts, reasons, run_reasons
from qw.core.workflow import parse_workflow
from qw.store import grants, queues, runs, schedules, tasks, why, workers
from qw.store.grants import Right
from qw.store.ids import new_id
from qw.store.queues import Pause
from qw.store.runs import StoredStep
from qw.store.tasks import Failures, QueueStats
from qw.store.workers import InHand, Worker


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue: what is in it, whether it is paused, how long the task at its head has been there."""

    stats: QueueStats
    pause: Pause | None
    oldest: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The whole in one look."""

    queues: list[Queue]
    workers: list[Worker]
    failures: list[Failures]
    late: list[tuple[str, timedelta]]  # schedules that nobody serves, the longest overdue first


async def overlook(client: Client) -> Overview:
    """Queues, workers, failures by type and late schedules. Counts no big table."""
    found = await list_queues(client)
    async with client.connection() as conn:
        return Overview(
            queues=found,
            workers=await workers.living(conn),
            failures=await tasks.failures(conn),
            late=await schedules.late(conn, by=LATE),
        )


async def list_queues(client: Client) -> list[Queue]:
    """The queues that have or had tasks, and those that are paused, in name order."""
    async with client.connection() as conn:
        stats = {each.queue: each for each in await tasks.stats(conn)}
        pauses = {each.name: each for each in await queues.paused(conn)}
        oldest = await queues.oldest(conn)
    return [
        Queue(
            stats=stats.get(name) or _nothing(name),
            pause=pauses.get(name),
            oldest=oldest.get(name),
        )
        for name in sorted({*stats, *pauses})
    ]


def _nothing(name: str) -> QueueStats:
    return QueueStats(queue=name, pending=0, processing=0, retrying=0, completed=0, failed=0, cancelled=0, enqueued=0)


async def pause_queue(client: Client, name: str, *, by: str) -> None:
    """Let nothing more be claimed from the queue; what runs goes on. Safe to repeat."""
    _check_queue(name)
    async with client.connection() as conn:
        await queues.pause(conn, name, by=by)


async def resume_queue(client: Client, name: str) -> bool:
    """Let the queue's tasks be claimed again. False: it was not paused."""
    _check_queue(name)
    async with client.connection() as conn:
        return await queues.resume(conn, name)


def _check_queue(name: str) -> None:
    check_new(NewTask(type="noop", id=new_id(), queue=name))


async def drain_worker(client: Client, id: int) -> None:
    """Ask a worker to drain and stop. Raise NotFound when it does not live."""
    async with client.connection() as conn:
        if not await workers.drain(conn, id):
            raise NotFound(f"worker {id} does not live; those that do: qw worker list")


async def in_hand(client: Client, worker: int) -> list[InHand]:
    """What a worker runs, the longest-running first."""
    async with client.connection() as conn:
        return await workers.running_in(conn, worker)


async def requeue(client: Client, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Enqueue finished tasks once more, as new tasks, in one transaction. Says by id what happened."""
    async with client.connection() as conn:
        return await tasks.requeue(conn, ids)


async def why_waits(client: Client, id: UUID) -> list[Reason]:
    """What keeps a task from running, or a run from going on; the strongest reason first. Raise NotFound."""
    async with client.connection() as conn:
        facts = await why.facts(conn, id)
    if facts is not None:
        return reasons(facts)
    try:
        return run_reasons(await _run_facts(client, id))
    except NotFound:
        raise NotFound(f"neither a task nor a run has the id {id}") from None


def _step_facts(step: StoredStep) -> StepFacts:
    return StepFacts(
        status=step.status, type=step.type, task_id=step.task_id, child_id=step.child_id, due_at=step.due_at
    )


async def _run_facts(client: Client, id: UUID) -> RunFacts:
    found = await client.run(id)
    run = found.run
    async with client.connection() as conn:
        documents = await runs.documents(conn, [run.version])
        has_news, living = await why.waits_for_advance(conn, id), await workers.living(conn)
    workflow = parse_workflow(run.workflow, documents[run.version])
    return RunFacts(
        id=id,
        status=run.status,
        detail=run.detail,
        error=run.error,
        needs={step.id: step.needs for step in workflow.steps},
        steps={step.step: _step_facts(step) for step in found.steps},
        has_news=has_news,
        servers=len(living),
    )


async def grant(client: Client, role: str, right: str, *, dry_run: bool = False) -> list[str]:
    """Give *role* a `Right` on qw's SQL. Returns the statements; with *dry_run* they are not run."""
    if right not in set(Right):
        raise Invalid(f"{right[:60]!r} is not a right; those are {', '.join(Right)}{guess(right, Right)}")
    async with client.connection() as conn:
        given = await grants.statements(conn, role, Right(right))
        if not dry_run:
            await grants.grant(conn, given)
    return given
