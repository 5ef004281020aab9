"""`TaskFunction`: a function registered as a task type. It is enqueued with checked arguments, as in a call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import UUID

from qw.core.errors import Invalid
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, Enqueued, NewTask, OnConflict
from qw.core.task.handler_api import Context
from qw.core.task.payload import Json, JsonObject
from qw.dbapi import Connection, enqueue_task
from qw.handlers.returned import as_returned
from qw.ids import new_id

P = ParamSpec("P")  # the function's parameters without the context: those of its payload
C = ParamSpec("C")  # all its parameters
R = TypeVar("R")


class Enqueuer(Protocol):
    """An object that enqueues tasks: `qw.Client`."""

    async def enqueue_task(self, task: NewTask, *, on_conflict: OnConflict = ...) -> Enqueued: ...


class TaskDecorator(Protocol):
    """The return type of `Handlers.task`. Typing can remove a context parameter only if it is the first one."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> TaskFunction[P, Concatenate[Context, P], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, P, R]: ...


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """The options of an enqueue besides the payload; see `qw.core.task.NewTask`."""

    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    delay: timedelta | None = None
    run_at: datetime | None = None
    unique_key: str | None = None
    on_conflict: OnConflict = "error"
    idempotency_key: str | None = None
    max_retries: int | None = None
    timeout: timedelta | None = None
    headers: dict[str, str] | None = None
    id: UUID | None = None


class Enqueueable(Generic[P, R]):
    """A task type with options for its tasks. Each method takes the function's arguments, without the context.

    Unexpected or missing arguments raise TypeError, values that do not match the annotations Invalid; both errors name
    the parameter.
    """

    payload: Callable[..., JsonObject]

    def __init__(self, type: str, function: Callable[..., R], settings: TaskSettings) -> None:
        self.type = type
        self.function: Callable[..., R] = function
        self._settings = settings

    def returned(self, result: Json, what: str) -> R:
        """See `qw.core.task.handler_api.Callee`."""
        return cast("R", as_returned(self.function, result, what))

    def new(self, *args: P.args, **kwargs: P.kwargs) -> NewTask:
        """The `NewTask` for these arguments, for `Client.enqueue_many` or `Client.enqueue_task`."""
        given = self._settings
        return NewTask(
            type=self.type,
            id=given.id or new_id(),
            payload=self.payload(*args, **kwargs),
            queue=given.queue,
            priority=given.priority,
            delay=given.delay,
            run_at=given.run_at,
            unique_key=given.unique_key,
            idempotency_key=given.idempotency_key,
            max_retries=given.max_retries,
            timeout=given.timeout,
            headers=given.headers,
            is_checked=True,
        )

    async def enqueue(self, client: Enqueuer, /, *args: P.args, **kwargs: P.kwargs) -> Enqueued:
        """Enqueue a task, committed when this returns. Raises as `Client.enqueue` does."""
        return await client.enqueue_task(self.new(*args, **kwargs), on_conflict=self._settings.on_conflict)

    def enqueue_sync(self, conn: Connection, /, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Enqueue a task in the transaction of a DB-API connection, as `qw.enqueue` does. Return its id."""
        given = self._settings
        if given.on_conflict == "replace":
            raise Invalid("enqueue_sync: on_conflict is 'error' or 'skip'; 'replace' needs a Client")
        return enqueue_task(conn, self.new(*args, **kwargs), on_conflict=given.on_conflict, makes_id=given.id is None)

    def options(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        delay: timedelta | None = None,
        run_at: datetime | None = None,
        unique_key: str | None = None,
        on_conflict: OnConflict | None = None,
        idempotency_key: str | None = None,
        max_retries: int | None = None,
        timeout: timedelta | None = None,
        headers: dict[str, str] | None = None,
        id: UUID | None = None,
    ) -> Enqueueable[P, R]:
        """The same task type with other options. Options that are None keep their value."""
        given = {
            "queue": queue,
            "priority": priority,
            "delay": delay,
            "run_at": run_at,
            "unique_key": unique_key,
            "on_conflict": on_conflict,
            "idempotency_key": idempotency_key,
            "max_retries": max_retries,
            "timeout": timeout,
            "headers": headers,
            "id": id,
        }
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        changed: Enqueueable[P, R] = Enqueueable(self.type, self.function, replace(self._settings, **changes))
        changed.payload = self.payload
        return changed


class TaskFunction(Enqueueable[P, R], Generic[P, C, R]):
    """A function registered with `Handlers.task`. Calling it calls the function directly, without the queue."""

    __name__: str

    def __init__(self, type: str, function: Callable[C, R], settings: TaskSettings) -> None:
        super().__init__(type, function, settings)
        functools.update_wrapper(cast("Callable[..., Any]", self), function)

    def __call__(self, *args: C.args, **kwargs: C.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> str:
        """Pickle by name, as functions are: handlers with ``process=True`` are sent to another process."""
        return str(getattr(self, "__qualname__", self.type))

    def __repr__(self) -> str:
        return f"<TaskFunction {self.type!r}: {self.function!r}>"
