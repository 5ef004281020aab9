"""`Client.details`: details of one task, one queue or the database, as the dashboard shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from qw.client.connections import Namespace
from qw.core.errors import NotFound
from qw.core.task import Attempt, Task
from qw.core.task.payload import JsonObject
from qw.store import applied, details, events, migrations, tasks
from qw.store.details import DatabaseFacts, SlotHolder, TaskType
from qw.store.events import LoggedEvent

LAST_EVENT = 2**63 - 1
MOST_ATTEMPTS = 10_000  # shown in the history of a task


@dataclass(frozen=True, kw_only=True)
class TaskHistory:
    """``attempts``: all, the last one final or running unless the task waits. ``hosts``: host names by worker number.

    ``made``: tasks made from this one, namely its copies and compensations.
    """

    attempts: Sequence[Attempt]
    hosts: dict[int, str]
    events: Sequence[LoggedEvent]
    progress: tuple[float, str] | None
    made: Sequence[Task]


@dataclass(frozen=True, kw_only=True)
class QueueDetails:
    """``lanes``: pairs of priority and number of ready tasks. ``held``: tasks held back by limits.

    All counts are exact to 10,000.
    """

    lanes: Sequence[tuple[int, int]]
    held: int
    holders: Sequence[SlotHolder]


class Details(Namespace):
    async def task(self, id: UUID) -> TaskHistory:
        """Return the history of a task: attempts, events, progress. Raise NotFound."""
        async with self._db.connection() as conn:
            stored = await tasks.get(conn, [id])
            if not stored:
                raise NotFound(f"task {id} does not exist")
            attempts = await tasks.attempts_of(conn, [id], limit=MOST_ATTEMPTS)
            if last := stored[0].last_attempt:
                attempts.append(last)
            workers = {attempt.worker for attempt in attempts if attempt.worker is not None}
            return TaskHistory(
                attempts=attempts,
                hosts=await details.hosts(conn, sorted(workers)),
                events=await events.events_before(conn, LAST_EVENT, task_id=id),
                progress=await tasks.read_progress(conn, id),
                made=await tasks.get(conn, await details.made_of(conn, id)),
            )

    async def types(self) -> list[TaskType]:
        """Return the types that workers have registered, in name order."""
        async with self._db.connection() as conn:
            return await details.types(conn)

    async def queue(self, name: str) -> QueueDetails:
        async with self._db.connection() as conn:
            return QueueDetails(
                lanes=await details.lanes(conn, name),
                held=await details.held(conn, name),
                holders=await details.holders(conn, name),
            )

    async def events(
        self, *, before: int = LAST_EVENT, limit: int = 100, type: str | None = None, task_id: UUID | None = None
    ) -> list[LoggedEvent]:
        """Return events of the log, newest first."""
        async with self._db.connection() as conn:
            return await events.events_before(conn, before, limit=limit, type=type, task_id=task_id)

    async def webhooks(self) -> dict[str, JsonObject]:
        """Return the documents of the applied webhooks by name."""
        async with self._db.connection() as conn:
            return await applied.of_kind(conn, "webhook")

    async def database(self) -> tuple[DatabaseFacts, str]:
        """Return facts about the database, and the newest migration that this version of qw knows."""
        async with self._db.connection() as conn:
            return await details.database(conn), migrations.known()[-1].name


__all__ = ["Details", "QueueDetails", "TaskHistory"]
