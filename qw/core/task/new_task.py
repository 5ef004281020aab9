"""A task to be enqueued: its fields and their checks.

A new field is added to `NewTask`, or to `TaskSettings` if steps and schedules have it, to `EnqueueOptions`, and to
`JSON_KEYS` if callers over HTTP may set it. The parameters and COPY rows of the store, `qw.enqueue` over other drivers,
the body of a request, messages from brokers and the lines of ``qw enqueue --stdin`` are made from `FIELDS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, TypedDict, cast
from uuid import UUID

from qw.core.errors import Fault, Invalid, guess
from qw.core.task.payload import Json, JsonObject, payload_faults, storable_faults
from qw.core.task.task import Backoff

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 5

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
_MAX_KEY = 512  # characters
_RESERVED_KEYS = ("requeue ", "compensate ")
_MAX_HEADERS = 50

RESERVED_HEADERS = "qw-"  # prefix of headers set by qw: the webhook of a delivery, the enqueuing role
FILED_UNDER = "workflowId"  # header with the id of the workflow that a task without a run belongs to

SqlType: TypeAlias = Literal["uuid", "text", "jsonb", "smallint", "interval", "timestamptz"]


class EnqueueOptions(TypedDict, total=False):
    """The options of a task besides its type and payload; see `NewTask`. None: the default."""

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
class TaskSettings:
    """How a task is run; steps and schedules have these settings too. None: the policy of the type applies."""

    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    max_retries: int | None = None
    timeout: timedelta | None = None

    def settings(self) -> dict[str, Any]:
        """Return only these fields, to make another `TaskSettings`."""
        return {name: getattr(self, name) for name in TaskSettings.__annotations__}


@dataclass(frozen=True, kw_only=True)
class NewTask(TaskSettings):
    """A task to be enqueued. ``max_retries``, ``timeout`` and ``backoff`` None: the policy of the type applies.

    ``priority`` is 0 to 9; lower numbers run first. ``run_at`` needs a time zone; ``delay`` is relative to the
    database's time at the enqueue; give at most one of them. ``max_retries`` counts all attempts, ``timeout`` limits
    each one. At most one unfinished task may have a ``unique_key``. While an ``idempotency_key`` is remembered,
    another enqueue with it returns the same task. ``run_id``, ``step`` and ``parent_id`` are set by qw for workflow
    steps and compensations. ``is_checked``: the handler's own function made the payload, so it is not checked against
    the workers' schemas.
    """

    type: str
    id: UUID
    payload: JsonObject = field(default_factory=dict)
    run_at: datetime | None = None
    delay: timedelta | None = None
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
        """Return a task with these *options*, and with *id* by default. Raise TypeError for an unknown option."""
        values: dict[str, Any] = {"id": id, "payload": {} if payload is None else payload, **given_options(options)}
        return cls(type=type, **values)

    def document(self) -> JsonObject:
        """Return the parameters of the SQL functions ``qw.enqueue`` and ``qw.enqueue_many``, without None values."""
        return {
            name: _plain(value)
            for name, value in vars(self).items()
            if value is not None and name not in ("run_id", "step", "is_checked")
        }


_SQL_TYPES: dict[str, SqlType] = {
    "str": "text",
    "int": "smallint",
    "UUID": "uuid",
    "datetime": "timestamptz",
    "timedelta": "interval",
    "JsonObject": "jsonb",
    "dict[str, str]": "jsonb",
    "Backoff": "jsonb",
}

FIELDS: dict[str, SqlType] = {
    name: _SQL_TYPES[annotation.removesuffix(" | None")]
    for name, annotation in (TaskSettings.__annotations__ | NewTask.__annotations__).items()
    if name != "is_checked"
}
"""The stored fields of a `NewTask`, named as the parameters of ``qw.enqueue``, with their SQL types."""

JSON_KEYS = {
    "queue": "queue",
    "priority": "priority",
    "run_at": "scheduledAt",
    "delay": "delay",
    "max_retries": "maxRetries",
    "timeout": "timeout",
    "unique_key": "uniqueKey",
}
"""The fields that callers may set over HTTP and in messages from brokers, with their names there."""


def given_options(options: EnqueueOptions) -> EnqueueOptions:
    """Return the options that are not None. Raise TypeError for an unknown option."""
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


def check_new(task: NewTask) -> None:
    """Raise Invalid, with up to ten faults, if the task cannot be stored."""
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
    """Return the faults of *name* as the name of a type or queue."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return []
    message = f"{str(name)[:60]!r} is not a name: letters, digits and _ . : / - (at most 128, not starting with a sign)"
    return [Fault(path=path, message=message)]


def _range_fault(path: str, number: int | None, low: int, high: int) -> list[Fault]:
    if number is None or (isinstance(number, int) and not isinstance(number, bool) and low <= number <= high):
        return []
    return [Fault(path=path, message=f"{number!r} is not an integer from {low} to {high}")]


def key_faults(path: str, text: str | None) -> list[Fault]:
    """Return the faults of a unique or idempotency key."""
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
    """Return the faults of a ``run_at``."""
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
