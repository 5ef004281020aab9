"""`Client.search`: searches for tasks in the dashboard's syntax, and bulk actions on all matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from qw.client.acting import doing, note
from qw.client.connections import Namespace, check_limit
from qw.client.tasks import COUNTED, Tasks, Total
from qw.clock import clock
from qw.core.errors import Invalid, NotFound, QwError, TimedOut
from qw.core.search import Search, parse_search
from qw.core.task import Status, Task
from qw.core.task.answer import Answers, done_among
from qw.store import bulk, search, tasks
from qw.store.bulk import BulkState
from qw.store.search import FIRST_ID
from qw.store.tasks import LAST_ID, Filter

FIND_SECONDS, COUNT_SECONDS = 3.0, 0.25
BULK_SECONDS = 30.0  # to find the next batch of a bulk action
BATCH = 500
MOST_NEWER = 1000

_APPLIES = {
    "retry": (Status.FAILED,),
    "cancel": (Status.PENDING, Status.RETRYING),
    "requeue": (Status.COMPLETED, Status.FAILED, Status.CANCELLED),
    "compensate": (Status.COMPLETED,),
}
ACTIONS = tuple(_APPLIES)


@dataclass(frozen=True, kw_only=True)
class Acting:
    """A requested bulk action on the tasks that match ``search``, or on ``ids``.

    ``running``: a cancellation includes running tasks.
    """

    action: str
    search: str | None = None
    ids: Sequence[UUID] | None = None
    running: bool = False
    reason: str = ""

    def check(self) -> None:
        """Raise Invalid for an unknown action, a faulty search, or if not exactly one of search and ids is given."""
        if self.action not in ACTIONS:
            raise Invalid(f"{self.action[:60]!r} is not one of {', '.join(ACTIONS)}")
        if (self.search is None) == (self.ids is None):
            raise Invalid("give either q or ids")
        if self.search is not None:
            parse_search(self.search, clock.now())

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses that the action applies to if the search names none."""
        return (*_APPLIES[self.action], *([Status.PROCESSING] if self.running else []))


class Searches(Namespace):
    async def find(self, text: str, *, limit: int = 100, before: UUID = LAST_ID) -> tuple[Search, list[Task]]:
        """Return the parsed search and matching tasks, newest first, at most 1,000.

        Raise Invalid for a faulty search, TimedOut for one that takes too long.
        """
        check_limit(limit, 1000)
        wanted = parse_search(text, clock.now())
        async with self._db.connection() as conn:
            ids = await search.find(conn, wanted, limit=limit, before=before, seconds=FIND_SECONDS)
            return wanted, await tasks.get(conn, ids)

    async def newer(self, wanted: Search, after: UUID) -> int:
        """Return the number of matching tasks with an id above *after*, at most 1,000."""
        async with self._db.connection() as conn:
            return len(await search.find(conn, wanted, limit=MOST_NEWER, after=after, seconds=FIND_SECONDS))

    async def count(self, wanted: Search) -> Total:
        """Return the number of matching tasks: exact to 10,000 or for at most one status and queue; else estimated."""
        if wanted == Search(statuses=wanted.statuses[:1], queues=wanted.queues[:1]):
            status = wanted.statuses[0] if wanted.statuses else None
            queue = wanted.queues[0] if wanted.queues else None
            return await Tasks(self._db).count(Filter(status=status, queue=queue))
        async with self._db.connection() as conn:
            try:
                count = await search.count(conn, wanted, limit=COUNTED + 1, seconds=COUNT_SECONDS)
                if count <= COUNTED:
                    return Total(count=count)
            except TimedOut:
                count = 0
            return Total(count=max(count, await search.estimate(conn, wanted)), is_estimate=True)

    # -- bulk actions

    async def matched(self, acting: Acting) -> Total:
        """Return the number of tasks that the action would change."""
        acting.check()
        if acting.search is None:
            return Total(count=len(set(acting.ids or ())))
        return await self.count(parse_search(acting.search, clock.now()).of_statuses(acting.statuses))

    async def start(self, acting: Acting, *, by: str) -> int:
        """Record the start of a bulk action and return its id. `act` then performs it."""
        total = await self.matched(acting)
        async with self._db.operating() as conn:
            return await bulk.start(
                conn,
                action=acting.action,
                search=acting.search,
                ids=acting.ids,
                running=acting.running,
                reason=acting.reason,
                by=by,
                matched=total.count,
                is_estimate=total.is_estimate,
            )

    async def act(self, id: int, acting: Acting) -> BulkState:
        """Perform a started action in batches of 500, newest first, until no task is left or `stop` was called.

        Each batch that changed a task is a transaction with its own audit row. Tasks enqueued after the start are not
        included, since ids are walked downwards from the newest.
        """
        done, skipped, state, error = 0, Counter[str](), "done", None
        failure: QwError | None = None
        verb = f"task {acting.action}"
        target = acting.search or "all" if acting.ids is None else f"{len(acting.ids):,} tasks"
        try:
            with doing(verb, target) as current:
                async for ids in self._batches(acting):
                    answers = await self._do(acting, ids)
                    done += done_among(answers)
                    skipped.update(answer.state for answer in answers.values() if not answer.is_done)
                    async with self._db.operating() as conn:
                        if await bulk.progress(conn, id, done=done, skipped=skipped):
                            state = "stopped"
                            break
        except QwError as caught:
            failure, state, error = caught, "failed", str(caught)
        async with self._db.operating() as conn:
            await bulk.finish(conn, id, state, error)
        if failure or not current.is_noted:
            await note(self, verb, target, count=0, error=failure)
        return await self.bulk(id)

    async def bulk(self, id: int) -> BulkState:
        """Return the state of a bulk action. Raise NotFound."""
        async with self._db.connection() as conn:
            bulks = await bulk.find(conn, id=id)
        if not bulks:
            raise NotFound(f"there is no bulk operation {id}")
        return bulks[0]

    async def bulks(self, *, limit: int = 100) -> list[BulkState]:
        """Return bulk actions, newest first."""
        async with self._db.connection() as conn:
            return await bulk.find(conn, limit=limit)

    async def stop(self, id: int) -> None:
        """Stop a bulk action after its current batch. Raise NotFound if it is not running."""
        async with self._db.operating() as conn:
            if not await bulk.stop(conn, id):
                raise NotFound(f"bulk operation {id} is not running")

    async def _batches(self, acting: Acting) -> AsyncIterator[Sequence[UUID]]:
        if acting.search is None:
            ids = sorted(set(acting.ids or ()), reverse=True)
            for start in range(0, len(ids), BATCH):
                yield ids[start : start + BATCH]
            return
        wanted, before = parse_search(acting.search, clock.now()).of_statuses(acting.statuses), LAST_ID
        while True:
            async with self._db.connection() as conn:
                page = await search.find(conn, wanted, limit=BATCH, before=before, after=FIRST_ID, seconds=BULK_SECONDS)
            if page:
                yield page
            if len(page) < BATCH:
                return
            before = page[-1]

    async def _do(self, acting: Acting, ids: Sequence[UUID]) -> Answers:
        act = Tasks(self._db)
        match acting.action:
            case "retry":
                return await act.retry(ids)
            case "cancel":
                return await act.cancel(ids, running=acting.running, reason=acting.reason or "cancelled")
            case "requeue":
                return await act.requeue(ids)
            case _:
                return await act.compensate(ids, reason=acting.reason)
