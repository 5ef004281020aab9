"""The task types: to be enqueued (`NewTask`), claimed (`Claim`), as stored (`Task`), past attempts (`Attempt`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypedDict, cast
from uuid import UUID

from qw.core.errors import Fault, Invalid, guess
from qw.core.task.payload import Json, JsonObject, payload_faults, storable_faults

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 5
PRIORITIES = range(10)  # lower runs first

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
_MAX_KEY = 512  # characters
_RESERVED_KEYS = ("requeue ", "compensate ")
_MAX_HEADERS = 50

RESERVED_HEADERS = "qw-"  # prefix of headers set by qw: the webhook of a delivery, the enqueuing role
FILED_UNDER = "workflowId"  # header with the id of the workflow that a task without a run belongs to


class Status(StrEnum):
    PENDING = "pending"  # waits for a worker or for its start time
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"  # final: retries or crashes used up, or rejected
    RETRYING = "retrying"  # waits for another attempt after a failed one
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
    errors; ``give_up_on`` takes precedence, and ``crash`` and ``lost`` in it end a task whose worker died.
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


class EnqueueOptions(TypedDict, total=False):
    """What may be said of a task besides its type and payload; see `NewTask`. What is None has its default."""

    queue: str | None
    priority: int | None
    run_at: datetime | None
    delay: timedelta | None
    max_retries: int | None
    timeout: timedelta | None
    backoff: Backoff | None
    unique_key: str | None
    idempotency_key: str | None
    headers: dict[str, str] | None
    parent_id: UUID | None
    id: UUID | None


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A task to be enqueued. ``max_retries``, ``timeout`` and ``backoff`` None: as the task type's policy says.

    ``priority`` is 0 to 9, lower runs first. ``run_at`` needs a time zone; ``delay`` is relative to the database's
    time at the enqueue; give at most one of them. ``max_retries`` counts all attempts, ``timeout`` limits each one.
    At most one unfinished task may have a ``unique_key``. An ``idempotency_key`` returns the same task for as long as
    the key is remembered. ``run_id``, ``step`` and ``parent_id`` are set by qw for workflow steps and compensations.
    ``is_checked``: the payload was made by the function that is to run, so it need not fit what workers registered.
    """

    type: str
    id: UUID
    payload: JsonObject = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    run_at: datetime | None = None
    delay: timedelta | None = None
    max_retries: int | None = None
    timeout: timedelta | None = None
    backoff: Backoff | None = None
    unique_key: str | None = None
    idempotency_key: str | None = None
    headers: dict[str, str] | None = None
    run_id: UUID | None = None
    step: str | None = None
    parent_id: UUID | None = None
    is_checked: bool = field(default=False, repr=False, compare=False)

    @classmethod
    def of(cls, type: str, payload: JsonObject | None, options: EnqueueOptions, *, id: UUID) -> NewTask:
        """A task with these *options*; *id* unless they have one. Raise TypeError for what is no option."""
        given: dict[str, Any] = {"id": id, "payload": {} if payload is None else payload, **given_options(options)}
        return cls(type=type, **given)

    def document(self) -> JsonObject:
        """As the SQL functions ``qw.enqueue`` and ``qw.enqueue_many`` take it, by parameter; without what is None."""
        return {
            name: _plain(value)
            for name, value in vars(self).items()
            if value is not None and name not in ("run_id", "step", "is_checked")
        }


def given_options(options: EnqueueOptions) -> EnqueueOptions:
    """Those that are not None. Raise TypeError for what is no option."""
    known = EnqueueOptions.__annotations__
    if unknown := [name for name in options if name not in known]:
        raise TypeError(f"{unknown[0]!r} is not an option of a task{guess(unknown[0], known)}")
    return cast("EnqueueOptions", {name: value for name, value in options.items() if value is not None})


def _plain(value: Any) -> Json:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat()
        case timedelta():
            return f"{value.total_seconds()} seconds"
        case Backoff():
            return value.document()
    return cast("Json", value)


OnConflict = Literal["error", "skip", "replace"]
"""What an enqueue does if an unfinished task holds its unique key; see `qw.Client.enqueue`."""


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """The result of an enqueue. ``is_new`` is False if a task with this id or key existed; ``id`` is that task's."""

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
    waited: float  # seconds, since it could have been claimed


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task with its current state.

    ``attempt`` is the number of the latest attempt; ``retries`` counts failed attempts since the last manual retry,
    ``crashes`` the attempts lost with their worker. ``run_at``: when a waiting task is due. ``reason``: why it waits
    or was cancelled. ``result`` is set for completed tasks, ``error`` for failed ones. ``worker``: id of the worker.
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


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A past attempt that did not give the task's final result."""

    task_id: UUID
    fence: int
    attempt: int
    outcome: str
    worker: int | None
    started_at: datetime | None
    ended_at: datetime
    error: str | None
    result: Json
    error_kind: str | None = None


def check_new(task: NewTask) -> None:
    """Raise Invalid, listing up to ten faults, for a task that cannot be stored."""
    faults = [
        *name_faults("type", task.type),
        *name_faults("queue", task.queue),
        *_range_fault("priority", task.priority, 0, 9),
        *_range_fault("max_retries", task.max_retries, 1, 32_000),
        *key_faults("unique_key", task.unique_key),
        *key_faults("idempotency_key", task.idempotency_key),
        *payload_faults(task.payload),
        *_headers_faults(task.headers),
        *_time_faults(task),
    ]
    if faults:
        raise Invalid(*faults[:10])


def name_faults(path: str, name: object) -> list[Fault]:
    """Faults of *name* as the name of a type or queue."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return []
    message = f"{str(name)[:60]!r} is not a name: letters, digits and _ . : / - (at most 128, not starting with a sign)"
    return [Fault(path=path, message=message)]


def _range_fault(path: str, number: int | None, low: int, high: int) -> list[Fault]:
    if number is None or (isinstance(number, int) and not isinstance(number, bool) and low <= number <= high):
        return []
    return [Fault(path=path, message=f"{number!r} is not an integer from {low} to {high}")]


def key_faults(path: str, text: str | None) -> list[Fault]:
    """Faults of a unique or idempotency key."""
    if text is None:
        return []
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_KEY:
        return [Fault(path=path, message=f"must be text of 1 to {_MAX_KEY} characters")]
    if path == "idempotency_key" and text.startswith(_RESERVED_KEYS):
        return [Fault(path=path, message="keys starting with 'requeue ' or 'compensate ' are reserved")]
    return list(storable_faults(text, path))


def _headers_faults(headers: dict[str, str] | None) -> list[Fault]:
    if headers is None:
        return []
    if not isinstance(headers, dict):
        return [Fault(path="headers", message="must be an object with string values")]
    if len(headers) > _MAX_HEADERS or any(not isinstance(v, str) or len(v) > 4096 for v in headers.values()):
        return [Fault(path="headers", message=f"at most {_MAX_HEADERS} headers of text up to 4,096 characters")]
    faults = list(storable_faults(headers, "headers"))[:10]
    for name in headers:
        if message := _header_fault(str(name), headers[name]):
            faults.append(Fault(path=f"headers.{str(name)[:60]}", message=message))
    return faults


def _header_fault(name: str, text: str) -> str | None:
    if not 0 < len(name) <= 128:
        return "a name of a header has 1 to 128 characters"
    if name.lower().startswith(RESERVED_HEADERS):
        return f"names starting with {RESERVED_HEADERS} are reserved"
    if name == FILED_UNDER and not _is_uuid(text):
        return "must be the id of a workflow"
    return None


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def run_at_faults(at: datetime | None) -> list[Fault]:
    """Faults of a ``run_at``."""
    if at is None:
        return []
    if at.tzinfo is None:
        return [Fault(path="run_at", message="needs a time zone, such as a final Z")]
    if not 1970 <= at.year <= 2200:
        return [Fault(path="run_at", message=f"the year {at.year} is not between 1970 and 2200")]
    return []


def _time_faults(task: NewTask) -> list[Fault]:
    faults = run_at_faults(task.run_at)
    if task.run_at is not None and task.delay is not None:
        faults.append(Fault(path="delay", message="give run_at or delay, not both"))
    for path, value in (("delay", task.delay), ("timeout", task.timeout)):
        if value is not None and not isinstance(value, timedelta):
            faults.append(
                Fault(path=path, message=f"must be a timedelta, such as timedelta(minutes=5), not {value!r:.60}")
            )
        elif value is not None and value < timedelta(0):
            faults.append(Fault(path=path, message="must not be negative"))
    if task.timeout == timedelta(0):
        faults.append(Fault(path="timeout", message="must be greater than 0"))
    return faults
