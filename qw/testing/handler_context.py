"""Contexts for calling a handler as a plain function: what it logs and reports is recorded, nothing is stored."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast
from uuid import UUID

from qw.core.errors import Invalid
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, clean
from qw.ids import new_id

T = TypeVar("T")


class RecordingContext:
    """A `qw.Context` for tests, made by `context`. It keeps what the handler did, in order.

    ``logs``: pairs of level and text. ``reports``: pairs of fraction and message. ``steps``: the stored results of
    steps by name; what is put in before the call stands for what earlier attempts completed.
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

    async def step(self, name: str, fn: Callable[[], Awaitable[T]]) -> T:
        if name not in self.steps:
            self.steps[name] = clean(await fn(), limit=MAX_RESULT)
        return cast("T", self.steps[name])

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self._given_connection()

    def _given_connection(self) -> Any:
        if self._conn is None:
            raise Invalid("this context has no connection; give it one: testing.context(conn=…)")
        return self._conn


class BlockingRecordingContext(RecordingContext):
    """The same for plain functions, whose context is used without ``await``. Made by `blocking_context`."""

    def log(self, message: str, *, level: str = "INFO") -> None:  # type: ignore[override]  # as in a thread
        _done(super().log(message, level=level))

    def output(self, data: bytes, *, level: str = "INFO") -> None:  # type: ignore[override]
        _done(super().output(data, level=level))

    def progress(self, fraction: float, message: str = "") -> None:  # type: ignore[override]
        _done(super().progress(fraction, message))

    def step(self, name: str, fn: Callable[[], Any]) -> Any:
        if name not in self.steps:
            result = fn()
            if inspect.iscoroutine(result):
                result = asyncio.run(result)
            self.steps[name] = clean(result, limit=MAX_RESULT)
        return self.steps[name]

    @contextmanager
    def connection(self) -> Iterator[Any]:  # type: ignore[override]
        yield self._given_connection()


def _done(work: Awaitable[None]) -> None:
    """Run a coroutine that waits for nothing."""
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
    conn: Any = None,
    state: Any = None,
) -> RecordingContext:
    """A context with which a handler can be called: ``await greet(testing.context(), "Ada")``.

    *steps*: results of steps that earlier attempts completed, by name. *conn*: what ``context.connection()`` gives; the
    test commits or rolls back. *state*: what the lifespan would have yielded.
    """
    return _make(RecordingContext, type, payload, attempt, task_id, headers, steps, conn, state)


def blocking_context(
    *,
    type: str = "test",
    payload: JsonObject | None = None,
    attempt: int = 1,
    task_id: UUID | None = None,
    headers: Mapping[str, str] | None = None,
    steps: Mapping[str, Json] | None = None,
    conn: Any = None,
    state: Any = None,
) -> BlockingRecordingContext:
    """The same for a plain function (``def``)."""
    return _make(BlockingRecordingContext, type, payload, attempt, task_id, headers, steps, conn, state)


_C = TypeVar("_C", bound=RecordingContext)


def _make(
    kind: type[_C],
    type: str,
    payload: JsonObject | None,
    attempt: int,
    task_id: UUID | None,
    headers: Mapping[str, str] | None,
    steps: Mapping[str, Json] | None,
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
        conn=conn,
        state=state,
    )
