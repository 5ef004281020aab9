"""`Client.queues`: counts, pauses and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from qw.client.acting import audited, counted
from qw.client.connections import Namespace
from qw.client.tasks import ID_BATCH, Tasks
from qw.core.queue.limits import Limits, limits_of
from qw.core.task import NewTask, Status, check_new
from qw.core.task.answer import done_among
from qw.core.task.payload import Json
from qw.store import queues, tasks
from qw.store.ids import new_id
from qw.store.queues import PausedQueue
from qw.store.tasks import Filter, QueueStats

STRAYS = 1000  # tasks moved per statement when limits change
PURGED = 10_000  # tasks cancelled per call


@dataclass(frozen=True, kw_only=True)
class QueueOverview:
    """A queue: task counts, pause, limits, and the age of the task at its head."""

    stats: QueueStats
    pause: PausedQueue | None
    limits: Limits | None
    oldest: timedelta | None


class Queues(Namespace):
    """Queues need no creation: a queue exists once a task, a pause or a limit names it."""

    async def all(self) -> list[QueueOverview]:
        """Return queues that have or had tasks, are paused or are limited, in name order."""
        async with self._db.connection() as conn:
            stats = {stat.queue: stat for stat in await tasks.stats(conn)}
            pauses = {queue.name: queue for queue in await queues.paused(conn)}
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

    async def stats(self) -> list[QueueStats]:
        """Return task counts by queue, in name order."""
        async with self._db.connection() as conn:
            return await tasks.stats(conn)

    @audited("queue pause")
    async def pause(self, *names: str, by: str) -> None:
        """Stop claims from the queues, all or none; running tasks continue. Idempotent. *by* is recorded."""
        for name in names:
            _check_queue(name)
        async with self._db.operating() as conn, conn.transaction():
            for name in sorted(names):
                await queues.pause(conn, name, by=by)

    @audited("queue resume")
    async def resume(self, *names: str) -> list[str]:
        """Allow claims from the queues again, all or none. Return the names of those that were paused."""
        for name in names:
            _check_queue(name)
        async with self._db.operating() as conn, conn.transaction():
            resumed = [name for name in sorted(names) if await queues.resume(conn, name)]
            counted(len(resumed))
        return resumed

    @audited("queue limit")
    async def limit(self, name: str, limits: Limits) -> None:
        """Replace the limits of a queue. Running tasks continue and count towards the limits. Idempotent."""
        _check_queue(name)
        async with self._db.operating() as conn:
            await queues.set_limits(conn, name, limits)
        await self.follow_limits(name)

    @audited("queue limit")
    async def amend_limits(self, name: str, changes: Mapping[str, Json]) -> Limits:
        """Set the limits in *changes* and keep the others. Return the resulting limits."""
        async with self._db.connection() as conn:
            before = (await queues.limits(conn)).get(name)
        limits = limits_of({**(before.document() if before else {}), **changes})
        await self.limit(name, limits)
        return limits

    @audited("queue limit")
    async def unlimit(self, name: str) -> bool:
        """Remove the limits of a queue; tasks held back by them become ready. Return False if it had none."""
        _check_queue(name)
        async with self._db.operating() as conn:
            was_limited = name in await queues.limits(conn)
            if was_limited:
                await queues.set_limits(conn, name, None)
        await self.follow_limits(name)
        return was_limited

    @audited("queue purge")
    async def purge(self, name: str, *, limit: int = PURGED) -> int:
        """Cancel about *limit* waiting tasks of a queue. Return the number cancelled; 0: no waiting task is left."""
        cancelled = 0
        for status in (Status.PENDING, Status.RETRYING):
            while cancelled < limit:
                ids = await Tasks(self._db).find_ids(Filter(queue=name, status=status), limit=ID_BATCH)
                done = done_among(await Tasks(self._db).cancel(ids, reason="the queue was purged"))
                cancelled += done
                if not done:
                    break
        return cancelled

    async def follow_limits(self, name: str) -> None:
        """Move the waiting tasks of a queue to match its current limits. Idempotent."""
        is_moving = True
        while is_moving:
            async with self._db.operating() as conn:
                is_moving = bool(
                    await queues.hold(conn, name, limit=STRAYS) or await queues.release(conn, name, limit=STRAYS)
                )


def _nothing(name: str) -> QueueStats:
    return QueueStats(queue=name, pending=0, processing=0, retrying=0, completed=0, failed=0, cancelled=0, enqueued=0)


def _check_queue(name: str) -> None:
    check_new(NewTask(type="noop", id=new_id(), queue=name))
