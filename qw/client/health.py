"""`Client.health`: overview and metrics of the whole system."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from qw.client.connections import Namespace
from qw.client.events import Events, Relaying
from qw.client.history import History, Rates, RecentMinutes
from qw.client.queues import QueueOverview, Queues
from qw.core.health import HealthFacts, HealthProblem, problems
from qw.core.history import SHARES
from qw.core.schedule.fire_decision import LATE
from qw.core.task.measure import Measure
from qw.store import measures, overview, schedules, tasks, workers
from qw.store.overview import Gauges
from qw.store.schedules import ScheduleStats
from qw.store.tasks import Failures
from qw.store.workers import WorkerRow


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Queues, workers, failures and late schedules in one snapshot."""

    queues: list[QueueOverview]
    workers: list[WorkerRow]
    failures: list[Failures]
    late: list[tuple[str, timedelta]]  # overdue schedules, longest overdue first
    relaying: Relaying

    @property
    def more_failed(self) -> bool:
        """Whether more tasks failed within the last day than are counted in ``failures``."""
        return sum(failure.failed for failure in self.failures) == tasks.MOST_FAILURES


@dataclass(frozen=True, kw_only=True)
class Glance:
    """An `Overview`, the rates by queue ("": all queues), quantiles of the waits of the last hour, and problems."""

    overview: Overview
    rates: dict[str, Rates]
    waits: dict[str, float | None]
    problems: list[HealthProblem]


class Health(Namespace):
    async def overview(self) -> Overview:
        """Return queues, workers, failures by type, late schedules and the broker. Scans no large table."""
        queues, relaying = await Queues(self._db).all(), await Events(self._db).relaying()
        async with self._db.connection() as conn:
            return Overview(
                queues=queues,
                workers=await workers.living(conn),
                failures=await tasks.failures(conn),
                late=await schedules.late(conn, by=LATE),
                relaying=relaying,
            )

    async def glance(self, recent: RecentMinutes | None = None) -> Glance:
        """Return what the dashboard's first page shows. Scans no large table. *recent*: cache of an earlier call."""
        seen, history = await self.overview(), History(self._db)
        async with self._db.connection() as conn:
            oldest_transaction = await overview.transaction_age(conn)
        return Glance(
            overview=seen,
            rates=await history.rates([queue.stats for queue in seen.queues], recent),
            waits=await history.waits(SHARES),
            problems=problems(_facts(seen, oldest_transaction)),
        )

    async def gauges(self) -> Gauges:
        async with self._db.connection() as conn:
            return await overview.gauges(conn)

    async def retention_behind(self, *, completed: timedelta, failed: timedelta) -> timedelta:
        """Return by how much the oldest finished task has outlived its retention; zero if none has."""
        async with self._db.connection() as conn:
            return await overview.retention_behind(conn, completed=completed, failed=failed)

    async def attempt_measures(self) -> list[Measure]:
        """Return attempt counts and durations of all daemons, cumulative since the database was created."""
        async with self._db.connection() as conn:
            return await measures.find(conn)

    async def schedule_measures(self) -> list[ScheduleStats]:
        """Return counts of fired and skipped ticks for the first 1,000 schedules, in name order."""
        async with self._db.connection() as conn:
            return await schedules.measures(conn)


def _facts(seen: Overview, transaction_seconds: float) -> HealthFacts:
    relaying = seen.relaying
    return HealthFacts(
        workers=len(seen.workers),
        troubles=[(worker.id, worker.trouble) for worker in seen.workers if worker.trouble],
        waiting=sum(queue.stats.pending + queue.stats.retrying for queue in seen.queues),
        oldest={q.stats.queue: q.oldest.total_seconds() for q in seen.queues if q.oldest is not None},
        paused=[queue.stats.queue for queue in seen.queues if queue.pause],
        failures=[(failures.type, failures.failed) for failures in seen.failures],
        more_failed=seen.more_failed,
        late=[(name, late.total_seconds()) for name, late in seen.late],
        broker=next((relay.broker for relay in relaying.relays if relay.state == "down"), None),
        unpublished=relaying.unpublished,
        blocked=relaying.blocked.count,
        transaction_seconds=transaction_seconds,
    )
