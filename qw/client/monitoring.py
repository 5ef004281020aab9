"""What is asked from outside, often: is it there, how full is it, what waits, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from qw.client import Client
from qw.core.task import Status, Task
from qw.core.task.measure import Measure
from qw.store import measures, overview, schedules, tasks
from qw.store.overview import Gauges
from qw.store.schedules import ScheduleStats
from qw.store.tasks import LogLine


async def gauges(client: Client) -> Gauges:
    async with client.connection() as conn:
        return await overview.gauges(conn)


async def attempt_measures(client: Client) -> list[Measure]:
    """What all daemons measured since the database was made."""
    async with client.connection() as conn:
        return await measures.find(conn)


async def schedule_measures(client: Client) -> list[ScheduleStats]:
    """Those of the first 1,000 schedules, in name order."""
    async with client.connection() as conn:
        return await schedules.measures(conn)


async def scheduled(client: Client, *, limit: int = 1000) -> list[Task]:
    """The tasks that wait for their time, the next first."""
    async with client.connection() as conn:
        found = await tasks.get(conn, await overview.scheduled(conn, limit=limit))
    return [task for task in found if task.status is Status.PENDING and task.run_at]


async def last_errors(client: Client, found: Sequence[Task]) -> dict[UUID, str]:
    """Why those of the tasks that are not final failed their last attempt."""
    waiting = [task.id for task in found if not task.status.is_final and (task.retries or task.crashes)]
    if not waiting:
        return {}
    async with client.connection() as conn:
        return await overview.last_errors(conn, waiting)


async def logs(client: Client, ids: Sequence[UUID], *, limit: int = 100) -> dict[UUID, list[LogLine]]:
    """The first lines of each task's log."""
    async with client.connection() as conn:
        return await overview.logs(conn, ids, limit=limit)
