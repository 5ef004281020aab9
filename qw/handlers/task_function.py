"""`TaskFunction`: a function registered as a task type. Tasks are enqueued with arguments, checked as in a call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload
from uuid import UUID

from qw.core.errors import Invalid
from qw.core.task import Enqueued, EnqueueOptions, NewTask, OnConflict, given_options
from qw.core.task.handler_api import Context
from qw.core.task.payload import Json, JsonObject
from qw.dbapi import Connection, enqueue_task
from qw.handlers.returned import as_returned
from qw.ids import new_id

P = ParamSpec("P")  # parameters of the payload: the function's, without the context
C = ParamSpec("C")  # all parameters of the function
R = TypeVar("R")


class Enqueuer(Protocol):
    """An object that enqueues tasks, such as `qw.Client`."""

    async def enqueue_task(self, task: NewTask, *, on_conflict: OnConflict = ...) -> Enqueued: ...


class TaskDecorator(Protocol):
    """The return type of `Handlers.task`. Typing can remove a context parameter only if it is the first one."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> TaskFunction[P, Concatenate[Context, P], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, P, R]: ...


class Enqueueable(Generic[P, R]):
    """A task type with options for its tasks. Each method takes the function's arguments, without the context.

    Unexpected or missing arguments raise TypeError; values that do not match the annotations raise Invalid. Both
    errors name the parameter.
    """

    payload: Callable[..., JsonObject]

    def __init__(self, type: str, function: Callable[..., R], options: EnqueueOptions, on_conflict: OnConflict) -> None:
        self.type = type
        self.function: Callable[..., R] = function
        self._options = options
        self._on_conflict = on_conflict

    def returned(self, result: Json, what: str) -> R:
        """See `qw.core.task.handler_api.Callee`."""
        return cast("R", as_returned(self.function, result, what))

    def new(self, *args: P.args, **kwargs: P.kwargs) -> NewTask:
        """Return the `NewTask` for these arguments, for `Client.enqueue_many` or `Client.enqueue_task`."""
        new = NewTask.of(self.type, self.payload(*args, **kwargs), self._options, id=new_id())
        return replace(new, is_checked=True)

    async def enqueue(self, client: Enqueuer, /, *args: P.args, **kwargs: P.kwargs) -> Enqueued:
        """Enqueue a task and return when it is committed. Raises as `Client.enqueue` does."""
        return await client.enqueue_task(self.new(*args, **kwargs), on_conflict=self._on_conflict)

    def enqueue_sync(self, conn: Connection, /, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Enqueue a task in the transaction of a DB-API connection, as `qw.enqueue` does. Return its id."""
        if self._on_conflict == "replace":
            raise Invalid("enqueue_sync: on_conflict must be 'error' or 'skip'; 'replace' needs a Client")
        makes_id = "id" not in self._options
        return enqueue_task(conn, self.new(*args, **kwargs), on_conflict=self._on_conflict, makes_id=makes_id)

    def options(
        self,
        *,
        on_conflict: OnConflict | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Enqueueable[P, R]:
        """Return the same task type with other options. Options that are None keep their value."""
        merged: EnqueueOptions = {**self._options, **given_options(options)}
        changed: Enqueueable[P, R] = Enqueueable(self.type, self.function, merged, on_conflict or self._on_conflict)
        changed.payload = self.payload
        return changed


class TaskFunction(Enqueueable[P, R], Generic[P, C, R]):
    """A function registered with `Handlers.task`. Calling it calls the function directly, without the queue."""

    __name__: str

    def __init__(self, type: str, function: Callable[C, R], options: EnqueueOptions) -> None:
        super().__init__(type, function, options, "error")
        functools.update_wrapper(cast("Callable[..., Any]", self), function)

    def __call__(self, *args: C.args, **kwargs: C.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> str:
        """Pickle by name, as functions are: handlers with ``process=True`` are sent to another process."""
        return str(getattr(self, "__qualname__", self.type))

    def __repr__(self) -> str:
        return f"<TaskFunction {self.type!r}: {self.function!r}>"
