"""What handlers are given, and what they may raise.

What is raised inside an exception group means the same as alone; `qw.core.outcome` says what a mixture means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from qw.core.task.payload import Json, JsonObject

T = TypeVar("T")


class Snooze(Exception):
    """Call me again after *delay*; this attempt costs nothing."""

    def __init__(self, delay: timedelta | float, reason: str = "snoozed") -> None:
        self.delay = _duration(delay, "Snooze: delay")
        self.reason = reason
        super().__init__(reason)


class Reject(Exception):
    """This task cannot succeed: it is failed now, whatever retries are left."""


class Retry(Exception):
    """This attempt failed; try again, after *after* where the handler knows better than the backoff."""

    def __init__(self, reason: str, *, after: timedelta | float | None = None) -> None:
        self.after = None if after is None else _duration(after, "Retry: after")
        super().__init__(reason)


def _duration(value: timedelta | float, name: str) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be a number of seconds or a timedelta, not {kind}") from None


class Failure(Exception):
    """This attempt failed for a reason that the message tells whole, so no traceback is kept; retried by policy."""


class Misfit(Reject):
    """The payload does not fit the handler here. It may fit another version of it, which runs elsewhere or will soon.

    So, unlike other rejections, it is left to such a worker, or retried.
    """


class Context(Protocol):
    """An attempt, seen from its handler.

    In a plain function every method blocks until it is done, `connection` is for ``with`` and gives a
    `psycopg.Connection`, and what `step` calls is a plain function.
    """

    @property
    def task_id(self) -> UUID: ...
    @property
    def type(self) -> str: ...
    @property
    def payload(self) -> JsonObject: ...
    @property
    def attempt(self) -> int:
        """1 for the first try; only ever rises."""
        ...

    @property
    def run_id(self) -> UUID | None: ...
    @property
    def step_id(self) -> str | None: ...
    @property
    def parent_id(self) -> UUID | None:
        """The task that this one compensates, if any."""
        ...

    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of the task: its id."""
        ...

    async def log(self, message: str, *, level: str = "INFO") -> None:
        """Add a line (or several) to the task's log. Safe from any attempt; never raises for what the text holds."""
        ...

    async def output(self, data: bytes, *, level: str = "INFO") -> None:
        """Add what a program printed to the task's log, so that `qw run -f` prints the same bytes."""
        ...

    async def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the attempt is, from 0 to 1."""
        ...

    async def step(self, name: str, fn: Callable[[], Awaitable[T]]) -> T:
        """The stored result of *fn*, run once across all attempts of this task. The result must be JSON."""
        ...

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """A psycopg connection in a transaction that commits together with the completion of this attempt.

        So its effects happen exactly once. Do not commit it. One per attempt, and the attempt's own: whatever is set on
        it is nobody else's.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A finished task as the compensation sees it."""

    task_id: UUID
    type: str
    payload: JsonObject
    result: Json
    finished_at: datetime


class Records(Protocol):
    """What the compensation handler may ask of the database; the store implements it."""

    async def completed_of_run(self, run_id: UUID) -> Sequence[Recorded]:
        """The completed tasks of a run, compensations excluded, the last completed first."""
        ...

    async def completed_task(self, task_id: UUID) -> Recorded | None:
        """The task if it is completed, else None."""
        ...
