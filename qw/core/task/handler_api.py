"""The handler API: the `Context` passed to handlers, and the exceptions that they may raise.

Inside an exception group these exceptions keep their meaning; see `qw.core.task.outcome` for mixed groups.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload
from uuid import UUID

from qw.core.task.new_task import NewTask
from qw.core.task.payload import Json, JsonObject

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
A = ParamSpec("A")
R_co = TypeVar("R_co", covariant=True)
Kind: TypeAlias = type[T]  # for signatures with a parameter named `type`


class Snooze(Exception):
    """Run the task again after *delay* (timedelta or seconds). The attempt does not count against ``max_retries``."""

    def __init__(self, delay: timedelta | float, reason: str = "snoozed") -> None:
        self.delay = duration(delay, "Snooze: delay")
        self.reason = reason
        super().__init__(reason)


class Reject(Exception):
    """The task cannot succeed: fail it at once, without further retries.

    *kind*: the kind of the error in conditions and ``steps.ID.error.kind``, such as ``card:declined``.
    """

    def __init__(self, *args: object, kind: str = "") -> None:
        self.kind = kind
        super().__init__(*args)


class Retry(Exception):
    """The attempt failed; retry it. *after* (timedelta or seconds) replaces the delay of the backoff.

    The attempt counts against ``max_retries``. *kind*: the kind of the error in ``retry: {on: …}`` and conditions.
    """

    def __init__(self, reason: str, *, after: timedelta | float | None = None, kind: str = "") -> None:
        self.after = None if after is None else duration(after, "Retry: after")
        self.kind = kind
        super().__init__(reason)


def duration(value: timedelta | float, name: str) -> timedelta:
    """Convert *value*, a timedelta or seconds. Raise TypeError with *name* for anything else."""
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be a number of seconds or a timedelta, not {kind}") from None


class Failure(Exception):
    """The attempt failed and is retried by policy. The message is complete, so no traceback is stored.

    *kind*: the kind of the error in ``retry: {on: …}`` and conditions, such as ``http:503``.
    """

    def __init__(self, *args: object, kind: str = "") -> None:
        self.kind = kind
        super().__init__(*args)


class Misfit(Reject):
    """The payload is invalid for this version of the handler, but may be valid for another one.

    Unlike after other rejections, the task is left to a worker with another version, or retried.
    """


class Callee(Protocol[A, R_co]):
    """A task type that can be called: a function with `qw.Handlers.task`, or its ``options()``."""

    def new(self, *args: A.args, **kwargs: A.kwargs) -> NewTask: ...
    def returned(self, result: Json, what: str) -> R_co:
        """Convert the stored *result* to the return type of the function (if it is async, of the awaited result)."""
        ...


class Context(Protocol):
    """The attempt that a handler runs: task data, logging, progress, stored steps, transactions.

    In a plain function all methods are blocking, `connection` is used with ``with`` and returns a
    `psycopg.Connection`, and `step` takes a plain function.
    """

    @property
    def task_id(self) -> UUID: ...
    @property
    def type(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def payload(self) -> JsonObject: ...
    @property
    def attempt(self) -> int:
        """The number of the attempt: 1 for the first; never decreases."""
        ...

    @property
    def run_id(self) -> UUID | None: ...
    @property
    def step_id(self) -> str | None: ...
    @property
    def parent_id(self) -> UUID | None:
        """The id of the task that this task compensates, if any."""
        ...

    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def state(self) -> Any:
        """The value that the application's lifespan yielded; None without a lifespan."""
        ...

    @property
    def idempotency_key(self) -> str:
        """The task's id as text: a key for external calls that is the same in all attempts."""
        ...

    async def log(self, message: str, *, level: str = "INFO") -> None:
        """Add one or more lines to the task's log. Accepts any text."""
        ...

    async def output(self, data: bytes, *, level: str = "INFO") -> None:
        """Add program output to the task's log; `qw run -f` prints the same bytes."""
        ...

    async def progress(self, fraction: float, message: str = "") -> None:
        """Report progress: a fraction from 0 to 1, and a message."""
        ...

    async def step(self, name: str, fn: Callable[A, Awaitable[T]], /, *args: A.args, **kwargs: A.kwargs) -> T:
        """Call *fn* with these arguments and store its result; later attempts of the task return the stored result.

        The result is stored as JSON, at most 256 KiB, and converted to the return annotation of *fn*; without an
        annotation, as for a lambda, it is returned as JSON. *name* and its occurrence identify the step within the
        task. *fn* runs again if an attempt ended before its result was stored. Raise Conflict if the steps completed
        in an earlier attempt now come in another order.
        """
        ...

    async def sleep(self, name: str, time: timedelta | float, /) -> None:
        """Wait until *time* (timedelta or seconds) has passed since the first attempt reached this call.

        Like `wait_signal`, `call` and `gather`, it suspends the task: the attempt ends without counting against
        ``max_retries`` and holds no slot. When the time has passed, the handler runs again from the start, and
        completed steps and waits return their stored results. Code between them runs again, so it must lead to the
        same steps.
        """
        ...

    @overload
    async def wait_signal(self, name: str, type: None = None, *, timeout: timedelta | float | None = None) -> Json: ...
    @overload
    async def wait_signal(self, name: str, type: Kind[T], *, timeout: timedelta | float | None = None) -> T: ...
    async def wait_signal(self, name: str, type: Any = None, *, timeout: timedelta | float | None = None) -> Any:
        """Wait for a signal (`qw task signal`) and return its payload: as JSON, or validated as *type*.

        Signals sent earlier are kept: each wait takes the oldest one with its *name*. Raise TimedOut after *timeout*,
        and Invalid if the payload does not validate.
        """
        ...

    @overload
    def call(self, task: NewTask, /) -> Awaitable[Json]: ...
    @overload
    def call(self, task: Callee[A, Coroutine[Any, Any, T]], /, *args: A.args, **kwargs: A.kwargs) -> Awaitable[T]: ...
    @overload
    def call(self, task: Callee[A, T], /, *args: A.args, **kwargs: A.kwargs) -> Awaitable[T]: ...
    def call(self, task: Any, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Enqueue a task with these arguments, wait for it to end, and return its result.

        The task is enqueued once, however many attempts this task has. Cancelling this task cancels it too. Raise
        TaskFailed or TaskCancelled if it fails or is cancelled. Await the returned object, or pass it to `gather`.
        """
        ...

    @overload
    async def gather(self, one: Awaitable[T1], two: Awaitable[T2], /) -> tuple[T1, T2]: ...
    @overload
    async def gather(self, one: Awaitable[T1], two: Awaitable[T2], three: Awaitable[T3], /) -> tuple[T1, T2, T3]: ...
    @overload
    async def gather(self, *branches: Awaitable[T]) -> tuple[T, ...]: ...
    @overload
    async def gather(self, *branches: NewTask) -> tuple[Json, ...]: ...
    async def gather(self, *branches: Any) -> tuple[Any, ...]:
        """Run branches concurrently and return their results. A branch is a coroutine that waits, or a call.

        Step names need to be unique only within a branch. Raise the error of the first branch that fails.
        Plain functions pass tasks (`TaskFunction.new`).
        """
        ...

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """A psycopg connection in a transaction that commits atomically with the completion of this attempt.

        Its writes therefore take effect exactly once. Do not commit it. There is one per attempt; session settings
        on it do not affect other users.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A completed task, as passed to its compensation."""

    task_id: UUID
    type: str
    payload: JsonObject
    result: Json
    finished_at: datetime


class Records(Protocol):
    """The queries of the compensation handler; implemented by the store."""

    async def completed_of_run(self, run_id: UUID) -> Sequence[Recorded]:
        """Return the completed tasks of a run, except compensations, latest completed first."""
        ...

    async def completed_task(self, task_id: UUID) -> Recorded | None:
        """Return the task if it completed, else None."""
        ...
