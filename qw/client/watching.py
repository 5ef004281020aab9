"""What is asked from outside, often: is it there, how full is it, what waits, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from qw.client import Client
from qw.core.task import Status, Task
from qw.store import overview, queues, tasks
from qw.store.overview import Gauges
from qw.store.queues import Pause
from qw.store.tasks import LogLine


async def ping(client: Client) -> None:
    """Raise Unavailable when the database is away."""
    async with client.connection() as conn:
        await overview.ping(conn)


async def gauges(client: Client) -> Gauges:
    async with client.connection() as conn:
        return await overview.gauges(conn)


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


async def paused(client: Client) -> list[Pause]:
    """The queues that are paused, in name order."""
    async with client.connection() as conn:
        return await queues.paused(conn)


async def pause(client: Client, queue: str, *, by: str) -> None:
    """Let nothing more be claimed from a queue."""
    async with client.connection() as conn:
        await queues.pause(conn, queue, by=by)


async def resume(client: Client, queue: str) -> bool:
    """Let a queue's tasks be claimed again. False: it was not paused."""
    async with client.connection() as conn:
        return await queues.resume(conn, queue)
