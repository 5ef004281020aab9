"""The asyncio client. Enqueue, wait and result are methods of `Client`; other operations are grouped by subject.

async with Client(url) as client:
    task = await client.enqueue("send_email", {"customerId": "zoe", "invoiceId": "INV-7"})
    await client.wait([task.id])
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, overload
from uuid import UUID

from qw import task_check, telemetry
from qw.client.coalesce import Coalescer
from qw.client.connections import Connections
from qw.client.foreign import AnyConnection, enqueue_over, is_foreign, schemas_over
from qw.client.type_check import TypeCheck
from qw.client.waiting import Poll
from qw.core.errors import Conflict, NotFound
from qw.core.task import (
    Enqueued,
    EnqueueOptions,
    NewTask,
    OnConflict,
    Task,
    check_new,
)
from qw.core.task.payload import Json, JsonObject
from qw.store import tasks, types
from qw.store.connection import Connection, ReconnectingConnection, translated
from qw.store.ids import new_id
from qw.store.pool import TIMEOUT, Pool, Single

if TYPE_CHECKING:
    from qw.client.audit import Audit
    from qw.client.definitions import DefinitionSets
    from qw.client.details import Details
    from qw.client.events import Events
    from qw.client.health import Health
    from qw.client.history import History
    from qw.client.queues import Queues
    from qw.client.rights import Rights
    from qw.client.runs import Runs
    from qw.client.samples import Samples
    from qw.client.schedules import Schedules
    from qw.client.search import Searches
    from qw.client.tasks import Tasks
    from qw.client.workers import Workers
    from qw.client.workflows import Workflows

COPY_BATCH = 5000
ID_BATCH = 1000

T = TypeVar("T")


class Client:
    """The asyncio client; use it with ``async with``. Operations by subject: `Client.tasks`, `Client.runs`, …

    *url* is a PostgreSQL URL, *size* the maximum number of pooled connections, *name* the application name shown by
    PostgreSQL. With ``size=1`` there is one connection, opened on first use: suitable for a command-line tool.
    All methods raise Unreachable when there is no contact with the database, Unavailable when it cannot serve the call
    now (a later try may succeed), LacksRight when the role may not do it.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int = 10,
        name: str = "qw client",
        timeout: float = TIMEOUT,
        check_tasks: bool | None = None,
    ) -> None:
        """*timeout*: seconds to wait for a free connection before raising Unavailable.

        *check_tasks*: refuse tasks of a type that no worker has registered, and payloads that do not fit the schema
        that the workers registered. None: as QW_CHECK_TASKS says, which is on by default.
        """
        self._url, self._size, self._name, self._timeout = url, size, name, timeout
        self._checks_tasks = task_check.is_on(check_tasks)
        self._make()

    @property
    def url(self) -> str:
        """The database URL that the client was created with, including the password if it has one."""
        return self._url

    @property
    def checks_tasks(self) -> bool:
        """Whether the client refuses tasks that no worker would run."""
        return self._checks_tasks

    def _make(self) -> None:
        link = ReconnectingConnection(self._url, name=self._name, guarded=False)
        self._pool: Pool | Single = (
            Single(link)
            if self._size == 1
            else Pool(self._url, size=self._size, name=self._name, timeout=self._timeout)
        )
        self._db = Connections(self._pool)
        self._coalescer = Coalescer(link)  # its own connection takes a third less time than one from the pool
        self._types = TypeCheck()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._make()  # the client may have been open before, in another event loop
        await self._pool.open()
        self._stack.push_async_callback(self._pool.close)
        self._stack.push_async_callback(self._coalescer.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client. Pending enqueues get up to 5 seconds to commit; later calls raise Unavailable."""
        await self._stack.aclose()

    # -- enqueue

    async def enqueue(
        self,
        type: str,
        payload: JsonObject | None = None,
        *,
        on_conflict: OnConflict = "error",
        conn: AnyConnection | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Enqueued:
        """Enqueue a task and return its id and whether it is new. Without *conn*, the task is committed on return.

        *conn*: enqueue in the open transaction of this connection: psycopg (async), asyncpg, or an `AsyncSession` or
        `AsyncConnection` of SQLAlchemy.
        *options*: queue, priority, run_at, delay, max_retries, timeout, backoff, unique_key, idempotency_key, headers,
        parent_id and id.

        *priority* is 0 to 9; lower runs first. *run_at* needs a time zone; give *run_at* or *delay*, not both.
        *max_retries* counts all attempts, including the first; *timeout* applies to each attempt.
        Idempotent for the same *id* or *idempotency_key*. If an unfinished task holds *unique_key*: Conflict is raised
        (``on_conflict="error"``), the holder is returned (``skip``), or a waiting holder is cancelled first
        (``replace``). Raise Invalid, listing every fault, for a task that cannot be stored, or that no registered
        worker would run (see *check_tasks* of `Client`).
        """
        task = NewTask.of(type, payload, options, id=new_id())
        return await self.enqueue_task(task, on_conflict=on_conflict, conn=conn)

    async def enqueue_task(
        self, task: NewTask, *, on_conflict: OnConflict = "error", conn: AnyConnection | None = None
    ) -> Enqueued:
        """Enqueue a `NewTask`; see `enqueue`."""
        check_new(task)
        if self._checks_tasks:
            await self._types.one(task, lambda: self._schemas(conn))
        if not telemetry.is_active():
            return await self._enqueue_task(task, on_conflict, conn)
        with telemetry.enqueuing(task) as traced:
            return await self._enqueue_task(traced, on_conflict, conn)

    async def _enqueue_task(self, task: NewTask, on_conflict: OnConflict, conn: AnyConnection | None) -> Enqueued:
        if conn is not None and is_foreign(conn):
            return await enqueue_over(conn, task, on_conflict)
        own = cast("Connection | None", conn)
        if task.unique_key or task.idempotency_key:
            return await self._enqueue_keyed(task, on_conflict, own)
        if own is None:
            return Enqueued(id=task.id, is_new=await self._coalescer.enqueue(task))
        with translated():
            return Enqueued(id=task.id, is_new=task.id in await tasks.enqueue(own, [task]))

    async def _enqueue_keyed(self, task: NewTask, on_conflict: OnConflict, conn: Connection | None) -> Enqueued:
        async with self._connection(conn) as c:
            if on_conflict == "replace":
                id = await _enqueue_replacing(c, task)
            else:
                id = await tasks.enqueue_keyed(c, task, on_conflict)
        return Enqueued(id=id, is_new=id == task.id)

    async def enqueue_many(self, new: Iterable[NewTask]) -> int:
        """Enqueue many tasks with COPY, in transactions of 5,000. Return the number of new tasks. Idempotent by id.

        Tasks whose unique or idempotency key is taken are skipped.
        Raise Invalid for a task that cannot be stored or that no worker would run; earlier batches stay committed.
        """
        with telemetry.enqueuing_many(new) as traced:
            return await self._enqueue_batches(traced)

    async def _enqueue_batches(self, new: Iterable[NewTask]) -> int:
        count = first = 0
        batch: list[NewTask] = []
        for task in new:
            check_new(task)
            batch.append(task)
            if len(batch) == COPY_BATCH:
                count += await self._store(batch, first)
                first += COPY_BATCH
                batch = []
        return count + (await self._store(batch, first) if batch else 0)

    async def _store(self, batch: Sequence[NewTask], first: int) -> int:
        if self._checks_tasks:
            await self._types.many(batch, first, lambda: self._schemas(None))
        plain = [task for task in batch if not task.unique_key and not task.idempotency_key]
        keyed = [task for task in batch if task.unique_key or task.idempotency_key]
        async with self._db.connection() as conn, conn.transaction():
            count = len(await tasks.enqueue_many(conn, plain)) if plain else 0
            count += await tasks.enqueue_keyed_many(conn, keyed) if keyed else 0
        return count

    async def wait(self, ids: Sequence[UUID], *, timeout: timedelta | None = None) -> list[Task]:
        """Wait until all tasks are final and return them.

        Raise NotFound if a task does not exist, TimedOut if some are not final after *timeout* (None: no limit).
        """
        async with self._db.connection() as conn:
            known = {task.id for task in await tasks.get(conn, ids)}
        if missing := [id for id in ids if id not in known]:
            raise NotFound(f"task {missing[0]} does not exist")
        wait, left = Poll(timeout), set(ids)
        while True:
            async with self._db.connection() as conn:
                left -= (await tasks.finals(conn, list(left))).keys()
            if not left:
                break
            await wait.pause(f"{len(left)} of {len(ids)} tasks are not final, among them {min(left)}")
        async with self._db.connection() as conn:
            return await tasks.get(conn, ids)

    @overload
    async def result(self, id: UUID, type: None = None, *, timeout: timedelta | None = None) -> Json: ...
    @overload
    async def result(self, id: UUID, type: type[T], *, timeout: timedelta | None = None) -> T: ...
    @overload
    async def result(self, id: UUID, type: object, *, timeout: timedelta | None = None) -> Any: ...
    async def result(self, id: UUID, type: Any = None, *, timeout: timedelta | None = None) -> Any:
        """Wait until the task is final and return its result: as JSON, or validated as *type* if given.

        Raise TaskFailed, TaskCancelled, NotFound, TimedOut after *timeout* (None: no limit), or Invalid if the result
        does not validate as *type*.
        """
        from qw.client.results import result_of

        return result_of(await self.wait([id], timeout=timeout), id, type)

    # -- by subject; imported on first use, to keep start-up short for programs that only enqueue

    @property
    def audit(self) -> Audit:
        """Audit: who performed which operator action, and when."""
        from qw.client.audit import Audit

        return Audit(self._db)

    @property
    def definitions(self) -> DefinitionSets:
        """Definition files: diff and apply."""
        from qw.client.definitions import DefinitionSets

        return DefinitionSets(self._db)

    @property
    def details(self) -> Details:
        """Details of one task, one queue or the database, as the dashboard shows them."""
        from qw.client.details import Details

        return Details(self._db)

    @property
    def events(self) -> Events:
        """Event log, blocked events, relays."""
        from qw.client.events import Events

        return Events(self._db)

    @property
    def health(self) -> Health:
        """Overview and metrics of the whole system."""
        from qw.client.health import Health

        return Health(self._db)

    @property
    def history(self) -> History:
        """Throughput, waits and depth over time."""
        from qw.client.history import History

        return History(self._db)

    @property
    def queues(self) -> Queues:
        """Queues: counts, pauses, limits."""
        from qw.client.queues import Queues

        return Queues(self._db)

    @property
    def rights(self) -> Rights:
        """Rights of database roles: grant, revoke, list."""
        from qw.client.rights import Rights

        return Rights(self._db)

    @property
    def runs(self) -> Runs:
        """Workflow runs: start, inspect, signal, approve, cancel, retry."""
        from qw.client.runs import Runs

        return Runs(self._db)

    @property
    def samples(self) -> Samples:
        """Sample tasks and workflows."""
        from qw.client.samples import Samples

        return Samples(self._db)

    @property
    def schedules(self) -> Schedules:
        """Schedules: list, add, pause, resume, trigger, backfill, remove."""
        from qw.client.schedules import Schedules

        return Schedules(self._db)

    @property
    def search(self) -> Searches:
        """Search for tasks in the dashboard's syntax, and bulk actions on all matches."""
        from qw.client.search import Searches

        return Searches(self._db)

    @property
    def tasks(self) -> Tasks:
        """Tasks: get, find, cancel, retry, compensate; attempts and logs."""
        from qw.client.tasks import Tasks

        return Tasks(self._db)

    @property
    def workers(self) -> Workers:
        """Workers: list, their running tasks, drain."""
        from qw.client.workers import Workers

        return Workers(self._db)

    @property
    def workflows(self) -> Workflows:
        """Workflow definitions: save, list, create, update, delete."""
        from qw.client.workflows import Workflows

        return Workflows(self._db)

    # -- inside

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection from this client's pool, in autocommit mode; pass it as *conn* to `enqueue` in a transaction."""
        async with self._db.connection() as conn:
            yield conn

    async def _schemas(self, conn: AnyConnection | None) -> dict[str, JsonObject | None]:
        """Read the payload schemas over *conn* if given: a client with ``size=1`` has no second connection."""
        if conn is not None and is_foreign(conn):
            return await schemas_over(conn)
        async with self._connection(cast("Connection | None", conn)) as own:
            return await types.schemas(own)

    @asynccontextmanager
    async def _connection(self, conn: Connection | None) -> AsyncIterator[Connection]:
        if conn is None:
            async with self._db.connection() as own:
                yield own
        else:
            with translated():
                yield conn


async def _enqueue_replacing(conn: Connection, task: NewTask) -> UUID:
    """Cancel the waiting holder of *task*'s unique key and store *task* in its place, in one transaction."""
    async with conn.transaction():
        try:
            with translated():
                async with conn.transaction():
                    return await tasks.enqueue_keyed(conn, task, "error")
        except Conflict as conflict:
            if conflict.holder is None:
                raise
            await tasks.cancel(conn, [conflict.holder], running=False, reason=f"replaced by {task.id}")
        return await tasks.enqueue_keyed(conn, task, "error")


__all__ = ["COPY_BATCH", "Client"]
