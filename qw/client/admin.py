"""What operators ask and do, over a client: one look at all, pausing queues, draining workers, mending in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from qw.client import Client, events
from qw.client.events import Relaying
from qw.core.errors import Conflict, Invalid, NotFound, guess
from qw.core.queue.limits import Limits, limits_of
from qw.core.rights import Right
from qw.core.schedule.fire_decision import LATE
from qw.core.task import NewTask, check_new
from qw.core.task.payload import Json, raise_faults, storable_faults
from qw.store import grants, queues, schedules, tasks, workers
from qw.store.ids import new_id
from qw.store.queues import Pause
from qw.store.tasks import Failures, QueueStats
from qw.store.workers import InHand, WorkerRow

STRAYS = 1000  # tasks that change their place at a time when limits change


@dataclass(frozen=True, kw_only=True)
class QueueOverview:
    """A queue: what is in it, whether it is paused or limited, how long the task at its head has been there."""

    stats: QueueStats
    pause: Pause | None
    limits: Limits | None
    oldest: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The whole in one look."""

    queues: list[QueueOverview]
    workers: list[WorkerRow]
    failures: list[Failures]
    late: list[tuple[str, timedelta]]  # schedules that nobody serves, the longest overdue first
    relaying: Relaying


async def overview(client: Client) -> Overview:
    """Queues, workers, failures by type, late schedules and the broker. Counts no big table."""
    found, relaying = await list_queues(client), await events.relaying(client)
    async with client.connection() as conn:
        return Overview(
            queues=found,
            workers=await workers.living(conn),
            failures=await tasks.failures(conn),
            late=await schedules.late(conn, by=LATE),
            relaying=relaying,
        )


async def list_queues(client: Client) -> list[QueueOverview]:
    """The queues that have or had tasks, and those that are paused or limited, in name order."""
    async with client.connection() as conn:
        stats = {each.queue: each for each in await tasks.stats(conn)}
        pauses = {each.name: each for each in await queues.paused(conn)}
        limits = await queues.limits(conn)
        oldest = await queues.oldest(conn)
    return [
        QueueOverview(
            stats=stats.get(name) or _nothing(name),
            pause=pauses.get(name),
            limits=limits.get(name),
            oldest=oldest.get(name),
        )
        for name in sorted({*stats, *pauses, *limits})
    ]


def _nothing(name: str) -> QueueStats:
    return QueueStats(queue=name, pending=0, processing=0, retrying=0, completed=0, failed=0, cancelled=0, enqueued=0)


async def pause_queue(client: Client, name: str, *, by: str) -> None:
    """Let nothing more be claimed from the queue; what runs goes on. Safe to repeat."""
    _check_queue(name)
    async with client.operating() as conn:
        await queues.pause(conn, name, by=by)


async def resume_queue(client: Client, name: str) -> bool:
    """Let the queue's tasks be claimed again. False: it was not paused."""
    _check_queue(name)
    async with client.operating() as conn:
        return await queues.resume(conn, name)


async def limit_queue(client: Client, name: str, limits: Limits) -> None:
    """Limit a queue, in place of the limits that it had. What runs goes on and counts. Safe to repeat."""
    _check_queue(name)
    async with client.operating() as conn:
        await queues.set_limits(conn, name, limits)
    await follow_limits(client, name)


async def amend_limits(client: Client, name: str, given: Mapping[str, Json]) -> Limits:
    """Set the limits in *given*, leave those that it does not name. Returns what now stands."""
    async with client.operating() as conn:
        before = (await queues.limits(conn)).get(name)
    found = limits_of({**(before.document() if before else {}), **given})
    await limit_queue(client, name, found)
    return found


async def unlimit_queue(client: Client, name: str) -> bool:
    """Let all that waits in a queue go, without limits. False: it had none."""
    _check_queue(name)
    async with client.operating() as conn:
        was_limited = name in await queues.limits(conn)
        if was_limited:
            await queues.set_limits(conn, name, None)
    await follow_limits(client, name)
    return was_limited


async def follow_limits(client: Client, name: str) -> None:
    """Bring what waits in a queue to where its limits, or their absence, have it wait. Safe to repeat."""
    async with client.operating() as conn:
        while await queues.hold(conn, name, limit=STRAYS) or await queues.release(conn, name, limit=STRAYS):
            pass


def _check_queue(name: str) -> None:
    check_new(NewTask(type="noop", id=new_id(), queue=name))


async def drain_worker(client: Client, id: int) -> None:
    """Ask a worker to drain and stop. Raise NotFound when it does not live."""
    async with client.operating() as conn:
        if not await workers.drain(conn, id):
            raise NotFound(f"worker {id} does not live; those that do: qw worker list")


async def in_hand(client: Client, worker: int) -> list[InHand]:
    """What a worker runs, the longest-running first."""
    async with client.connection() as conn:
        return await workers.running_in(conn, worker)


async def requeue(client: Client, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Enqueue finished tasks once more, as new tasks, in one transaction. Says by id what happened. Safe to repeat."""
    async with client.operating() as conn:
        return await tasks.requeue(conn, ids)


async def compensate(client: Client, ids: Sequence[UUID], *, reason: str = "") -> dict[UUID, str]:
    """Enqueue the undoing of completed tasks, in one transaction. Says by id what happened. Safe to repeat."""
    raise_faults(storable_faults(reason, "reason"))
    async with client.operating() as conn:
        done = await tasks.compensate(conn, ids, reason=reason)
    return {id: answer for id, (answer, _) in done.items()}


async def grant(client: Client, role: str, right: str, *, dry_run: bool = False) -> list[str]:
    """Give *role* a `Right`. Returns the statements; with *dry_run* they are not run."""
    wanted = _right(right)
    async with client.connection() as conn:
        given = await grants.granting(conn, role, wanted)
        if not dry_run:
            await grants.run(conn, given)
    return given


async def revoke(client: Client, role: str, right: str, *, dry_run: bool = False) -> list[str]:
    """Take a `Right` from *role*, which keeps what else it was granted. Raise Conflict when it was not granted that."""
    unwanted = _right(right)
    async with client.connection() as conn:
        has = (await grants.granted(conn)).get(role, [])
        if unwanted not in has and not dry_run:
            including = [each for each in has if unwanted in each.includes]
            hint = f"; its right {including[0].value!r} includes that" if including else ""
            raise Conflict(f"role {role} was not granted {right!r}{hint}")
        given = await grants.revoking(conn, role, unwanted)
        if not dry_run:
            await grants.run(conn, given)
    return given


async def granted(client: Client) -> dict[str, list[Right]]:
    """Which roles were granted which rights, in name order."""
    async with client.connection() as conn:
        return await grants.granted(conn)


def _right(name: str) -> Right:
    if name not in set(Right):
        raise Invalid(f"{name[:60]!r} is not a right; those are {', '.join(Right)}{guess(name, Right)}")
    return Right(name)
