"""The context passed to handlers: implements `qw.core.task.handler_api.Context` with the store."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, TypeVar, cast
from uuid import UUID

from qw.core.errors import Invalid
from qw.core.task import Claim
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, NotPlain, clean, clean_text
from qw.core.task.printed import lines_of
from qw.handlers import Handler
from qw.services.side_thread import returned, start_thread
from qw.store import tasks
from qw.store.connection import Connection
from qw.store.handler_transaction import Blocking, HandlerTransaction, HandlerTransactions

T = TypeVar("T")

LINE_LENGTH = 8192  # maximum characters of a log line
LEVEL_LENGTH = 32
MESSAGE_LENGTH = 16 * 1024 * 1024  # maximum characters per log call


class Connections(Protocol):
    """The pool that an attempt takes connections from."""

    def connection(self) -> Any: ...


LogLine: TypeAlias = tuple[UUID, int, str, str, bytes | None]  # task, attempt, level, message, raw


class LogSink(Protocol):
    """The destination of log lines. Waits while it is full."""

    def __call__(self, lines: Sequence[LogLine]) -> Awaitable[None]: ...


class AttemptContext:
    """See `qw.core.task.handler_api.Context`.

    What handlers hold for as long as they run comes from *transactions*, so that it keeps nobody from *pool*.
    *limit* is the attempt's time-out, if it has one.
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
        "transaction",
    )

    def __init__(
        self,
        claim: Claim,
        pool: Connections,
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

    async def step(self, name: str, fn: Callable[[], Awaitable[T]]) -> T:
        stored = await self.checkpoint(name)
        if stored is not None:
            return cast("T", stored[0])
        return cast("T", await self.keep_checkpoint(name, await fn()))

    async def checkpoint(self, name: str) -> tuple[Json] | None:
        """The stored result of a step, if it is completed."""
        async with self._pool.connection() as conn:
            return await tasks.checkpoint(conn, self._claim.id, name)

    async def keep_checkpoint(self, name: str, result: object) -> Json:
        value = await _stored_form(result)
        async with self._pool.connection() as conn:
            await tasks.keep_checkpoint(conn, self._claim.id, name, value)
        return value

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


async def _stored_form(value: object) -> Json:
    """*value* as stored between attempts. Raise Invalid if it cannot be stored, and what its own methods raise."""
    try:
        return clean(value, limit=MAX_RESULT, plain_only=True)
    except NotPlain:
        pass
    stored: Json = returned(await start_thread("qw step", lambda: clean(value, limit=MAX_RESULT)))
    return stored


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
    """The name of a level, given as a name or as a number of `logging`."""
    name = logging.getLevelName(level) if type(level) is int else level
    return _text(name).strip()[:LEVEL_LENGTH] or "INFO"


class BlockingContext:
    """The context of a plain function in a thread: every coroutine method blocks until it is done.

    Made in the thread of *loop*. There its methods are coroutines as usual, since waiting would stop the loop.
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
        return threading.get_ident() == self._thread  # a coroutine that a plain function returned runs in the loop

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def step(self, name: str, fn: Callable[[], Any]) -> Any:
        """As `Context.step`; *fn* is a plain function, called in this thread."""
        if self._is_in_loop:
            return self._context.step(name, fn)
        stored = self._wait(self._context.checkpoint(name))
        if stored is not None:
            return stored[0]
        result = fn()
        if inspect.iscoroutine(result):
            result = self._wait(result)
        return self._wait(self._context.keep_checkpoint(name, result))

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
