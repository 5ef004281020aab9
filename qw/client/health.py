"""`Client.health`: overview and metrics of the whole system."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from qw.client.connections import Namespace
from qw.client.events import Events, Relaying
from qw.client.queues import QueueOverview, Queues
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


class Health(Namespace):
    async def overview(self) -> Overview:
        """Queues, workers, failures by type, late schedules and the broker. Scans no large table."""
        found, relaying = await Queues(self._db).all(), await Events(self._db).relaying()
        async with self._db.connection() as conn:
            return Overview(
                queues=found,
                workers=await workers.living(conn),
                failures=await tasks.failures(conn),
                late=await schedules.late(conn, by=LATE),
                relaying=relaying,
            )

    async def gauges(self) -> Gauges:
        async with self._db.connection() as conn:
            return await overview.gauges(conn)

    async def attempt_measures(self) -> list[Measure]:
        """Attempt counts and durations of all daemons, cumulative since the database was created."""
        async with self._db.connection() as conn:
            return await measures.find(conn)

    async def schedule_measures(self) -> list[ScheduleStats]:
        """Counts of fired and skipped ticks for the first 1,000 schedules, in name order."""
        async with self._db.connection() as conn:
            return await schedules.measures(conn)
