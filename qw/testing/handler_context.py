"""Contexts for calling a handler as a plain function. They record its logs and progress and store nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from qw.core.errors import Invalid, TimedOut
from qw.core.task import NewTask
from qw.core.task.handler_api import duration
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, clean
from qw.handlers.returned import as_returned, validated
from qw.ids import new_id

T = TypeVar("T")
A = ParamSpec("A")


class RecordingContext:
    """A `qw.Context` for tests, created by `context`. It records what the handler did, in order.

    ``logs``: pairs of level and text. ``reports``: pairs of fraction and message. ``steps``: the stored results of
    steps by name; entries set before the call stand for steps that earlier attempts completed. ``sleeps``: pairs of
    name and time; they do not wait. ``signals`` and ``results``: what `wait_signal` and `call` return, by the name of
    the signal and the type of the task. ``calls``: the tasks that would have been enqueued.
    """

    def __init__(
        self,
        *,
        type: str,
        payload: JsonObject,
        attempt: int,
        task_id: UUID,
        headers: Mapping[str, str],
        steps: Mapping[str, Json],
        signals: Mapping[str, Json],
        results: Mapping[str, Json],
        conn: Any,
        state: Any,
    ) -> None:
        self.type = type
        self.queue = "default"
        self.payload = payload
        self.attempt = attempt
        self.task_id = task_id
        self.headers = dict(headers)
        self.run_id: UUID | None = None
        self.step_id: str | None = None
        self.parent_id: UUID | None = None
        self.steps: dict[str, Json] = dict(steps)
        self.signals = dict(signals)
        self.results = dict(results)
        self.sleeps: list[tuple[str, timedelta]] = []
        self.calls: list[NewTask] = []
        self.logs: list[tuple[str, str]] = []
        self.outputs: list[bytes] = []
        self.reports: list[tuple[float, str]] = []
        self.state = state
        self._conn = conn

    @property
    def idempotency_key(self) -> str:
        return str(self.task_id)

    async def log(self, message: str, *, level: str = "INFO") -> None:
        self.logs.append((level, str(message)))

    async def output(self, data: bytes, *, level: str = "INFO") -> None:
        self.outputs.append(data)

    async def progress(self, fraction: float, message: str = "") -> None:
        if not 0 <= fraction <= 1:
            raise Invalid(f"progress must be a number from 0 to 1, not {fraction}")
        self.reports.append((fraction, str(message)))

    async def step(self, name: str, fn: Callable[A, Awaitable[T]], /, *args: A.args, **kwargs: A.kwargs) -> T:
        if name not in self.steps:
            self.steps[name] = clean(await fn(*args, **kwargs), limit=MAX_RESULT)
        return cast("T", as_returned(fn, self.steps[name], f"step {name}"))

    async def sleep(self, name: str, time: timedelta | float, /) -> None:
        self.sleeps.append((name, duration(time, f"sleep {name!r}")))

    async def wait_signal(self, name: str, type: Any = None, *, timeout: timedelta | float | None = None) -> Any:
        return self._signal(name, type, timeout)

    def _signal(self, name: str, type: Any, timeout: timedelta | float | None) -> Any:
        if name not in self.signals:
            if timeout is not None:
                raise TimedOut(f"signal {name} did not come")
            raise Invalid(f"this context has no signal {name}; give it one: testing.context(signals={{{name!r}: …}})")
        return self.signals[name] if type is None else validated(type, self.signals[name], f"signal {name}")

    def call(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `qw.Context.call`. Records the task and returns the prepared result for its type."""
        return self._call(task, *args, **kwargs)

    async def _call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        return self._called(task, args, kwargs)

    def _called(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        new = task if isinstance(task, NewTask) else task.new(*args, **kwargs)
        self.calls.append(new)
        if new.type not in self.results:
            raise Invalid(
                f"this context has no result for {new.type}; give it one: testing.context(results={{{new.type!r}: …}})"
            )
        result = self.results[new.type]
        return result if isinstance(task, NewTask) else task.returned(result, f"result of {new.type}")

    def gather(self, *branches: Any) -> Any:
        """See `qw.Context.gather`."""
        return self._gather(*branches)

    async def _gather(self, *branches: Any) -> tuple[Any, ...]:
        return tuple(
            [self._called(branch, (), {}) if isinstance(branch, NewTask) else await branch for branch in branches]
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self._given_connection()

    def _given_connection(self) -> Any:
        if self._conn is None:
            raise Invalid("this context has no connection; give it one: testing.context(conn=…)")
        return self._conn


class BlockingRecordingContext(RecordingContext):
    """The same for plain functions, which use the context without ``await``. Created by `blocking_context`."""

    def log(self, message: str, *, level: str = "INFO") -> None:  # type: ignore[override]  # as in a thread
        _done(super().log(message, level=level))

    def output(self, data: bytes, *, level: str = "INFO") -> None:  # type: ignore[override]
        _done(super().output(data, level=level))

    def progress(self, fraction: float, message: str = "") -> None:  # type: ignore[override]
        _done(super().progress(fraction, message))

    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if name not in self.steps:
            result = fn(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = asyncio.run(result)
            self.steps[name] = clean(result, limit=MAX_RESULT)
        return as_returned(fn, self.steps[name], f"step {name}")

    def sleep(self, name: str, time: timedelta | float, /) -> None:  # type: ignore[override]
        _done(super().sleep(name, time))

    def wait_signal(self, name: str, type: Any = None, *, timeout: timedelta | float | None = None) -> Any:
        return self._signal(name, type, timeout)

    def call(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self._called(task, args, kwargs)

    def gather(self, *branches: Any) -> Any:
        return tuple(self._called(task, (), {}) for task in branches)

    @contextmanager
    def connection(self) -> Iterator[Any]:  # type: ignore[override]
        yield self._given_connection()


def _done(work: Awaitable[None]) -> None:
    """Run a coroutine that never waits."""
    for _ in work.__await__():
        raise AssertionError("it waited")


def context(
    *,
    type: str = "test",
    payload: JsonObject | None = None,
    attempt: int = 1,
    task_id: UUID | None = None,
    headers: Mapping[str, str] | None = None,
    steps: Mapping[str, Json] | None = None,
    signals: Mapping[str, Json] | None = None,
    results: Mapping[str, Json] | None = None,
    conn: Any = None,
    state: Any = None,
) -> RecordingContext:
    """Return a context for calling a handler: ``await greet(testing.context(), "Ada")``.

    *steps*: results of steps that earlier attempts completed, by name. *signals*, *results*: what ``wait_signal`` and
    ``call`` return, by name and type; waiting for another one with a timeout raises TimedOut. *conn*: what
    ``context.connection()`` returns; the test commits or rolls back. *state*: the value that the lifespan would have
    yielded.
    """
    return _make(RecordingContext, type, payload, attempt, task_id, headers, steps, signals, results, conn, state)


def blocking_context(
    *,
    type: str = "test",
    payload: JsonObject | None = None,
    attempt: int = 1,
    task_id: UUID | None = None,
    headers: Mapping[str, str] | None = None,
    steps: Mapping[str, Json] | None = None,
    signals: Mapping[str, Json] | None = None,
    results: Mapping[str, Json] | None = None,
    conn: Any = None,
    state: Any = None,
) -> BlockingRecordingContext:
    """The same for a plain function (``def``)."""
    return _make(
        BlockingRecordingContext, type, payload, attempt, task_id, headers, steps, signals, results, conn, state
    )


_C = TypeVar("_C", bound=RecordingContext)


def _make(
    kind: type[_C],
    type: str,
    payload: JsonObject | None,
    attempt: int,
    task_id: UUID | None,
    headers: Mapping[str, str] | None,
    steps: Mapping[str, Json] | None,
    signals: Mapping[str, Json] | None,
    results: Mapping[str, Json] | None,
    conn: Any,
    state: Any,
) -> _C:
    return kind(
        type=type,
        payload=payload or {},
        attempt=attempt,
        task_id=task_id or new_id(),
        headers=headers or {},
        steps=steps or {},
        signals=signals or {},
        results=results or {},
        conn=conn,
        state=state,
    )
