"""The context passed to handlers: implements `qw.core.task.handler_api.Context` with the store."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, TypeVar
from uuid import UUID

from qw.core.duration import MAX_DURATION, format_duration
from qw.core.errors import Invalid, TaskCancelled, TaskFailed, TimedOut
from qw.core.task import Claim, NewTask, check_new
from qw.core.task.after import AfterStatus, When, waits_for
from qw.core.task.checkpoint import Checkpoint, CheckpointKind, Suspend, together
from qw.core.task.handler_api import Callee, Reject, duration
from qw.core.task.payload import JsonObject, clean_text
from qw.core.task.printed import lines_of
from qw.handlers import Handler
from qw.handlers.returned import as_returned, validated
from qw.services.execution.journal import Journal, JournalEntry, branch
from qw.store import tasks
from qw.store.connection import Connection
from qw.store.handler_transaction import Blocking, HandlerTransaction, HandlerTransactions
from qw.store.ids import new_id

T = TypeVar("T")

LINE_LENGTH = 8192  # maximum characters of a log line
LEVEL_LENGTH = 32
MESSAGE_LENGTH = 16 * 1024 * 1024  # maximum characters per log call


class ConnectionSource(Protocol):
    """The pool that an attempt takes connections from."""

    def connection(self) -> Any: ...


LogLine: TypeAlias = tuple[UUID, int, str, str, bytes | None]  # task, attempt, level, message, raw


class LogSink(Protocol):
    """The destination of log lines. Waits while it is full."""

    def __call__(self, lines: Sequence[LogLine]) -> Awaitable[None]: ...


class AttemptContext:
    """See `qw.core.task.handler_api.Context`.

    Connections that a handler holds while it runs come from *transactions*, so that they do not exhaust *pool*.
    *limit* is the attempt's timeout, if it has one.
    """

    __slots__ = (
        "_claim",
        "_handler",
        "_is_reserved",
        "_limit",
        "_log",
        "_pool",
        "_transactions",
        "has_logged",
        "journal",
        "transaction",
    )

    def __init__(
        self,
        claim: Claim,
        pool: ConnectionSource,
        transactions: HandlerTransactions,
        log: LogSink,
        limit: timedelta | None,
        handler: Handler | None = None,
    ) -> None:
        self._handler = handler
        self._claim = claim
        self._pool = pool
        self._transactions = transactions
        self._log = log
        self._limit = limit
        self._is_reserved = False
        self.has_logged = False
        self.journal: Journal | None = None
        self.transaction: HandlerTransaction | None = None

    @property
    def task_id(self) -> UUID:
        return self._claim.id

    @property
    def type(self) -> str:
        return self._claim.type

    @property
    def queue(self) -> str:
        return self._claim.queue

    @property
    def payload(self) -> JsonObject:
        return self._claim.payload

    @property
    def attempt(self) -> int:
        return self._claim.attempt

    @property
    def run_id(self) -> UUID | None:
        return self._claim.run_id

    @property
    def step_id(self) -> str | None:
        return self._claim.step

    @property
    def parent_id(self) -> UUID | None:
        return self._claim.parent_id

    @property
    def headers(self) -> dict[str, str]:
        return self._claim.headers or {}

    @property
    def state(self) -> Any:
        return None if self._handler is None else self._handler.state

    @property
    def idempotency_key(self) -> str:
        return str(self._claim.id)

    async def log(self, message: str, *, level: str = "INFO") -> None:
        self.has_logged = True
        id, attempt, name = self._claim.id, self._claim.attempt, _level(level)
        await self._log([(id, attempt, name, line[:LINE_LENGTH], None) for line in _text(message).splitlines() or [""]])

    async def output(self, data: bytes, *, level: str = "INFO") -> None:
        self.has_logged = True
        await self._log([(self._claim.id, self._claim.attempt, level, *line) for line in lines_of(data)])

    async def progress(self, fraction: float, message: str = "") -> None:
        if not 0 <= fraction <= 1:
            raise Invalid(f"progress must be a number from 0 to 1, not {fraction}")
        async with self._pool.connection() as conn:
            await tasks.write_progress(conn, self._claim.id, fraction, _text(message)[:LINE_LENGTH])

    async def step(self, name: str, fn: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        entry = await self.enter_step(name)
        if entry.known is None:
            outside = branch.set(inside(entry))
            try:
                result = await fn(*args, **kwargs)
            finally:
                branch.reset(outside)
            return await self.keep_step(entry, fn, result)
        return as_returned(fn, entry.known.value, f"step {entry.key}")

    async def enter_step(self, name: str) -> JournalEntry:
        return await self._the_journal().enter(name, CheckpointKind.STEP)

    async def keep_step(self, entry: JournalEntry, fn: Callable[..., Any], result: object) -> Any:
        """Store the result of *fn*, and return what later attempts will return."""
        return as_returned(fn, await self._the_journal().keep(entry, result), f"step {entry.key}")

    async def sleep(self, name: str, time: timedelta | float) -> None:
        delay = _wait_time(time, f"sleep {name!r}")
        journal = self._the_journal()
        entry = await journal.enter(name, CheckpointKind.SLEEP)
        await journal.wait(entry, CheckpointKind.SLEEP, delay)

    async def wait_signal(self, name: str, type: Any = None, *, timeout: timedelta | float | None = None) -> Any:
        delay = None if timeout is None else _wait_time(timeout, f"signal {name!r}: timeout")
        journal = self._the_journal()
        entry = await journal.enter(name, CheckpointKind.SIGNAL)
        found = await journal.wait(entry, CheckpointKind.SIGNAL, delay)
        if found.outcome == "timed_out":
            after = "" if found.due_at is None else f" within {format_duration(found.due_at - found.at)}"
            raise TimedOut(f"signal {name} did not come{after}")
        return found.value if type is None else validated(type, found.value, f"signal {name}")

    async def come_after(self, ids: Sequence[UUID], when: When) -> dict[UUID, AfterStatus]:
        """Return the statuses of the tasks that have ended, in the order of *ids*; at least one.

        Raise Suspend while this task has to wait, Reject if the condition can no longer be met.

        Not for the handlers of applications: a task that waits for others should be their parent, or a workflow.
        """
        journal = self._the_journal()
        found = await journal.after(ids)
        open_ones = [one for one in found if one.is_open]
        statuses = {id: AfterStatus(one.outcome or "unfinished") for id, one in zip(ids, found, strict=True)}
        try:
            left = waits_for(when, statuses)
        except ValueError as error:
            raise Reject(str(error)) from None
        if left:
            raise journal.suspend(Suspend(open_ones, needs_all=when is not When.ANY))
        return {id: status for id, status in statuses.items() if status is not AfterStatus.UNFINISHED}

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Call:
        return Call(self, task, args, kwargs)

    async def called(self, calls: Sequence[Call]) -> list[tuple[Call, Checkpoint]]:
        """Return the checkpoints of *calls*, after enqueuing the tasks that no earlier attempt has enqueued."""
        journal = self._the_journal()
        entered = [await call.enter(journal) for call in calls]
        new = [
            (entry, call.new(self._claim.id) if entry.known is None else call.known())
            for call, entry in zip(calls, entered, strict=True)
        ]
        return list(zip(calls, await journal.call(new), strict=True))

    async def gather(self, *branches: Any) -> tuple[Any, ...]:
        journal = self._the_journal()
        prefix = journal.next_gather()
        calls = [Call(self, one, (), {}) if isinstance(one, NewTask) else one for one in branches]
        for number, one in enumerate(calls):
            if isinstance(one, Call):
                one.branch = f"{prefix}{number}/"
        if all(isinstance(one, Call) for one in calls):
            return await self._gather_calls(calls)
        return await self._gather_branches(calls, prefix)

    async def _gather_calls(self, calls: Sequence[Call]) -> tuple[Any, ...]:
        found = await self.called(calls)
        for call, checkpoint in found:
            if checkpoint.outcome not in (None, "completed"):
                call.result(checkpoint)  # raises
        if waits := [checkpoint for _, checkpoint in found if checkpoint.is_open]:
            raise self._the_journal().suspend(Suspend(waits, needs_all=True))
        return tuple(call.result(checkpoint) for call, checkpoint in found)

    async def _gather_branches(self, branches: Sequence[Awaitable[Any]], prefix: str) -> tuple[Any, ...]:
        running = [asyncio.ensure_future(_in_branch(one, f"{prefix}{n}/")) for n, one in enumerate(branches)]
        ended = await asyncio.gather(*running, return_exceptions=True)
        errors = [one for one in ended if isinstance(one, BaseException)]
        for error in errors:
            if not isinstance(error, Suspend):
                raise error
        if errors:
            raise self._the_journal().suspend(together([one for one in errors if isinstance(one, Suspend)]))
        return tuple(ended)

    def _the_journal(self) -> Journal:
        if self.journal is None:
            self.journal = Journal(self._claim, self._pool)
        return self.journal

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield await (await self.reserve_transaction()).open()

    async def reserve_transaction(self) -> HandlerTransaction:
        if self._is_reserved:
            raise Invalid("an attempt can open only one connection(); it is already open")
        self._is_reserved = True
        try:
            self.transaction = await self._transactions.reserve(self._limit)
        except BaseException:
            self._is_reserved = False
            raise
        return self.transaction


class ItemContext(AttemptContext):
    """The context of one task of a batch. Steps and transactions are not available: one call runs many tasks."""

    __slots__ = ()

    def _the_journal(self) -> Journal:
        raise Invalid("a task of a batch has no steps, waits or calls; use a handler of @app.task() for them")

    async def reserve_transaction(self) -> HandlerTransaction:
        raise Invalid("a task of a batch has no connection(); open one of your own for the batch")


class Call:
    """A task that a handler calls: await it, or pass it to `AttemptContext.gather`, which sets its ``branch``."""

    def __init__(self, context: AttemptContext, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._context = context
        self._given: NewTask | None = task if isinstance(task, NewTask) else None
        self._task: Callee[..., Any] | None = None if self._given else task
        if self._given is None and not callable(getattr(task, "new", None)):
            raise TypeError(f"context.call takes a task (a function with @app.task) or a NewTask, not {task!r:.100}")
        self._new = self._given or task.new(*args, **kwargs)
        for name in ("unique_key", "idempotency_key", "parent_id", "run_id"):
            if getattr(self._new, name) is not None:
                raise Invalid(f"context.call: a called task has no {name}; its position in the handler identifies it")
        check_new(self._new)
        self.branch: str | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self.awaited().__await__()

    async def awaited(self) -> Any:
        """Return the result of the task. Raise Suspend until it has ended."""
        [(_, checkpoint)] = await self._context.called([self])
        if checkpoint.is_open:
            assert self._context.journal is not None
            raise self._context.journal.suspend(Suspend([checkpoint]))
        return self.result(checkpoint)

    async def enter(self, journal: Journal) -> JournalEntry:
        outside = branch.set(branch.get() if self.branch is None else self.branch)
        try:
            return await journal.enter(self._new.type, CheckpointKind.CALL)
        finally:
            branch.reset(outside)

    def new(self, parent: UUID) -> NewTask:
        return replace(self._new, id=new_id(), parent_id=parent)

    def known(self) -> NewTask:
        return self._new

    def result(self, checkpoint: Checkpoint) -> Any:
        """Return the result of the ended task. Raise TaskFailed or TaskCancelled."""
        assert checkpoint.child_id is not None
        id, type, error = checkpoint.child_id, self._new.type, checkpoint.error or ""
        if checkpoint.outcome == "cancelled":
            raise TaskCancelled(id=id, type=type, reason=error)
        if checkpoint.outcome == "failed":
            attempts = checkpoint.value if isinstance(checkpoint.value, int) else 0
            raise TaskFailed(id=id, type=type, error=error, attempts=attempts)
        if self._task is None:
            return checkpoint.value
        return self._task.returned(checkpoint.value, f"result of task {id} ({type})")


async def _in_branch(work: Awaitable[T], name: str) -> T:
    branch.set(name)
    return await work


def inside(entry: JournalEntry) -> str:
    """Return the branch for uses of the context inside a step."""
    key = entry.key
    return f"{key.branch}{key.name}#{key.occurrence}/"


def _wait_time(time: timedelta | float, what: str) -> timedelta:
    delay = duration(time, what)
    if not timedelta(0) <= delay <= MAX_DURATION:
        raise Invalid(f"{what} must be from 0 to {MAX_DURATION.days:,} days, not {delay}")
    return delay


def _text(message: object) -> str:
    try:
        text = str(message)
    except Exception as error:
        return f"({type(message).__name__}: its text cannot be read: {type(error).__name__})"
    if len(text) > MESSAGE_LENGTH:
        half = MESSAGE_LENGTH // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return clean_text(text)


def _level(level: object) -> str:
    """Return the name of a level, which may be a name or a number of `logging`."""
    name = logging.getLevelName(level) if type(level) is int else level
    return _text(name).strip()[:LEVEL_LENGTH] or "INFO"


class BlockingContext:
    """The context of a plain function in a thread: every coroutine method blocks until it is done.

    It is created in the thread of *loop*. There its methods return coroutines, since blocking would stop the loop.
    """

    def __init__(self, context: AttemptContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._context, name)
        if not asyncio.iscoroutinefunction(value):
            return value

        def wait(*args: Any, **kwargs: Any) -> Any:
            if self._is_in_loop:
                return value(*args, **kwargs)
            return self._wait(value(*args, **kwargs))

        return wait

    @property
    def _is_in_loop(self) -> bool:
        return threading.get_ident() == self._thread  # true in a coroutine that a plain function returned

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def step(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `Context.step`; *fn* is a plain function, called in this thread."""
        if self._is_in_loop:
            return self._context.step(name, fn, *args, **kwargs)
        entry = self._wait(self._context.enter_step(name))
        if entry.known is not None:
            return as_returned(fn, entry.known.value, f"step {entry.key}")
        outside = branch.set(inside(entry))
        try:
            result = fn(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = self._wait(result)
        finally:
            branch.reset(outside)
        return self._wait(self._context.keep_step(entry, fn, result))

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """As `Context.call`, but waits and returns the result."""
        called = self._context.call(task, *args, **kwargs)
        return called if self._is_in_loop else self._wait(called.awaited())

    def connection(self) -> Any:
        """A context manager with a blocking psycopg connection, for use in this thread."""
        return self._context.connection() if self._is_in_loop else self._connection()

    @contextmanager
    def _connection(self) -> Iterator[Blocking]:
        transaction = self._wait(self._context.reserve_transaction())
        conn = transaction.open_blocking()
        try:
            yield conn
        finally:
            if transaction.is_closed:  # the attempt ended while this thread was in a statement
                conn.close()
