"""A task as it is claimed (`Claim`) and as it is stored (`Task`), its past attempts and its retry policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from qw.core.task.payload import Json, JsonObject


class Status(StrEnum):
    PENDING = "pending"  # waits for a worker or for its start time
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"  # final: retries or crashes exhausted, or rejected
    RETRYING = "retrying"  # waits for a retry after a failed attempt
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """The delay before the next attempt, and which errors are retried.

    The delay after the nth failed attempt is random, up to ``delay * factor ** (n - 1)`` and at most ``max_delay``.
    ``retry_on`` and ``give_up_on`` contain kinds of errors (``timeout``, ``exit:75``, ``http:5xx``, see
    `qw.core.task.error_kind`) and names of exception classes (``ConnectError``). An empty ``retry_on`` means all
    errors; ``give_up_on`` takes precedence. ``crash`` and ``lost`` in ``give_up_on`` fail a task at once if its worker
    crashes or is silent for a lease.
    """

    delay: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max_delay: timedelta = timedelta(minutes=10)
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()

    def document(self) -> JsonObject:
        """The JSON form stored with a task; durations are seconds."""
        return {
            "delay": self.delay.total_seconds(),
            "factor": self.factor,
            "max_delay": self.max_delay.total_seconds(),
            "retry_on": list(self.retry_on),
            "give_up_on": list(self.give_up_on),
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> Backoff:
        """The inverse of `document`."""
        return cls(
            delay=timedelta(seconds=document.get("delay", 1)),
            factor=document.get("factor", 2),
            max_delay=timedelta(seconds=document.get("max_delay", 600)),
            retry_on=tuple(document.get("retry_on", ())),
            give_up_on=tuple(document.get("give_up_on", ())),
        )


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The retry policy of a task type. ``max_retries`` counts all attempts, including the first.

    ``timeout`` limits each attempt, measured from the start of its handler; None: no limit.
    """

    max_retries: int = 3
    timeout: timedelta | None = timedelta(minutes=5)
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """The result of an enqueue. ``is_new`` is False if a task with this id or key existed; ``id`` is then its id."""

    id: UUID
    is_new: bool


class Lane(NamedTuple):
    """The unit of claiming: the ready tasks of one queue and one priority, in seq order."""

    queue: str
    priority: int


class Claim(NamedTuple):
    """A task that this worker holds, as the claim statement returns it.

    A tuple, not a dataclass: at 30,000 tasks a second building a frozen dataclass costs a fifth of the budget.
    """

    id: UUID
    fence: int
    attempt: int
    retries: int
    crashes: int
    seq: int
    queue: str
    priority: int
    type: str
    payload: JsonObject
    max_retries: int | None
    timeout: timedelta | None
    backoff: JsonObject | None
    unique_key: str | None
    run_id: UUID | None
    step: str | None
    parent_id: UUID | None
    headers: dict[str, str] | None
    cancel_asked: bool
    waited: float  # seconds since it became ready to be claimed


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task with its current state.

    ``attempt`` is the number of the latest attempt; ``retries`` counts failed attempts, ``crashes`` the attempts lost
    with their worker, both since the last manual retry or suspension. ``run_at``: when a waiting task is due.
    ``reason``: why it waits or was cancelled. ``result`` is set for completed tasks, ``error`` for failed ones.
    ``worker``: id of the worker.
    """

    id: UUID
    type: str
    queue: str
    priority: int
    payload: JsonObject
    max_retries: int
    timeout: timedelta | None
    unique_key: str | None
    run_id: UUID | None
    step: str | None
    parent_id: UUID | None
    headers: dict[str, str] | None
    created_at: datetime
    status: Status
    attempt: int
    retries: int
    crashes: int
    run_at: datetime | None
    reason: str | None
    worker: int | None
    started_at: datetime | None
    finished_at: datetime | None
    result: Json
    error: str | None
    error_kind: str | None = None

    @property
    def last_attempt(self) -> Attempt | None:
        """The attempt that is running or produced the result; None if the task waits or never ran."""
        if self.started_at is None or self.status in (Status.PENDING, Status.RETRYING):
            return None
        return Attempt(
            task_id=self.id,
            attempt=self.attempt,
            outcome=self.status.value,
            worker=self.worker,
            started_at=self.started_at,
            ended_at=self.finished_at,
            error=self.error,
            result=self.result,
            error_kind=self.error_kind,
        )


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt of a task. ``ended_at`` None: it is running. ``fence``: of a past attempt."""

    task_id: UUID
    fence: int | None = None
    attempt: int
    outcome: str
    worker: int | None
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    result: Json
    error_kind: str | None = None
