"""`Client.queues`: what is in them, pauses and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from qw.client.connections import Namespace
from qw.core.queue.limits import Limits, limits_of
from qw.core.task import NewTask, check_new
from qw.core.task.payload import Json
from qw.store import queues, tasks
from qw.store.ids import new_id
from qw.store.queues import Pause
from qw.store.tasks import QueueStats

STRAYS = 1000  # tasks that change their place at a time when limits change


@dataclass(frozen=True, kw_only=True)
class QueueOverview:
    """A queue: what is in it, whether it is paused or limited, how long the task at its head has been there."""

    stats: QueueStats
    pause: Pause | None
    limits: Limits | None
    oldest: timedelta | None


class Queues(Namespace):
    """A queue exists as soon as it is named."""

    async def all(self) -> list[QueueOverview]:
        """The queues that have or had tasks, and those that are paused or limited, in name order."""
        async with self._db.connection() as conn:
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

    async def stats(self) -> list[QueueStats]:
        """Counts by queue, in name order."""
        async with self._db.connection() as conn:
            return await tasks.stats(conn)

    async def pause(self, name: str, *, by: str) -> None:
        """Let nothing more be claimed from the queue; what runs goes on. Safe to repeat."""
        _check_queue(name)
        async with self._db.operating() as conn:
            await queues.pause(conn, name, by=by)

    async def resume(self, name: str) -> bool:
        """Let the queue's tasks be claimed again. False: it was not paused."""
        _check_queue(name)
        async with self._db.operating() as conn:
            return await queues.resume(conn, name)

    async def limit(self, name: str, limits: Limits) -> None:
        """Limit a queue, in place of the limits that it had. What runs goes on and counts. Safe to repeat."""
        _check_queue(name)
        async with self._db.operating() as conn:
            await queues.set_limits(conn, name, limits)
        await self.follow_limits(name)

    async def amend_limits(self, name: str, given: Mapping[str, Json]) -> Limits:
        """Set the limits in *given*, leave those that it does not name. Returns what now stands."""
        async with self._db.operating() as conn:
            before = (await queues.limits(conn)).get(name)
        found = limits_of({**(before.document() if before else {}), **given})
        await self.limit(name, found)
        return found

    async def unlimit(self, name: str) -> bool:
        """Let all that waits in a queue go, without limits. False: it had none."""
        _check_queue(name)
        async with self._db.operating() as conn:
            was_limited = name in await queues.limits(conn)
            if was_limited:
                await queues.set_limits(conn, name, None)
        await self.follow_limits(name)
        return was_limited

    async def follow_limits(self, name: str) -> None:
        """Bring what waits in a queue to where its limits, or their absence, have it wait. Safe to repeat."""
        async with self._db.operating() as conn:
            while await queues.hold(conn, name, limit=STRAYS) or await queues.release(conn, name, limit=STRAYS):
                pass


def _nothing(name: str) -> QueueStats:
    return QueueStats(queue=name, pending=0, processing=0, retrying=0, completed=0, failed=0, cancelled=0, enqueued=0)


def _check_queue(name: str) -> None:
    check_new(NewTask(type="noop", id=new_id(), queue=name))
