"""State changes (`Event`) and their messages for brokers (`Message`): CloudEvents 1.0, or the ``nest`` envelope.

The consumers of the system that qw replaces read the ``nest`` envelope: a task to process, with a pattern as its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from qw.core.errors import Fault, Invalid, guess
from qw.core.task.masking import masked, masked_error
from qw.core.task.payload import Json, JsonObject

TYPES = (
    "task.created",
    "task.started",
    "task.progressed",
    "task.completed",
    "task.failed",
    "task.retrying",
    "task.cancelled",
    "task.rescued",
    "workflow.run.started",
    "workflow.run.completed",
    "workflow.run.failed",
    "workflow.run.cancelled",
    "schedule.fired",
    "schedule.skipped",
    "schedule.late",
    "queue.paused",
    "queue.resumed",
    "worker.up",
    "worker.lost",
)
LOUD = frozenset({"task.started", "task.progressed"})  # published only on request
DISPATCHING = frozenset({"task.created", "task.retrying"})  # events that a nest consumer reads as tasks to process

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
CUT_ERROR = 1000  # characters of the error in a shortened message

_PATTERNS = {
    "http_request": "http.request",
    "data_processing": "data.processing",
    "compensation": "compensation",
    "fetch_orders": "fetch.orders",
    "create_invoice": "create.invoice",
    "generate_pdf": "generate.pdf",
    "send_email": "send.email",
}
OTHER_PATTERN = "task.created"
REPLAYED = "replayed"  # the key in ``data`` of a replayed event that holds its first CloudEvent


class EventFormat(StrEnum):
    CLOUDEVENTS = "cloudevents"
    NEST = "nest"


class Event(NamedTuple):
    """An event. ``id`` stays the same if it is published again. ``about``: the task's type or the workflow's name.

    ``data`` has the fields that only this type of event has. ``is_shortened``: long fields were removed.
    A tuple for speed, like `Claim`: a relay makes an Event and a `Message` for every event while the worker runs.
    """

    id: UUID
    type: str
    at: datetime
    task_id: UUID | None = None
    run_id: UUID | None = None
    workflow_id: str | None = None
    about: str | None = None
    queue: str | None = None
    step: str | None = None
    attempt: int | None = None
    created_at: datetime | None = None
    error: str | None = None
    payload: JsonObject | None = None
    result: Json = None
    data: JsonObject | None = None
    headers: dict[str, str] | None = None
    is_shortened: bool = False

    @property
    def key(self) -> UUID:
        """The ordering key: events of one task or one run are published in order; others have their own key."""
        return self.task_id or self.run_id or self.id


class Message(NamedTuple):
    """An event in the form that brokers take. ``topic``: words separated by dots, from general to specific."""

    id: UUID
    topic: str
    type: str
    at: datetime
    body: bytes
    content_type: str
    task_id: UUID | None = None
    run_id: UUID | None = None


def message(event: Event, format: EventFormat, *, source: str, limit: int | None = None) -> Message:
    """Return the message for *event*; if its body is longer than *limit* bytes, the event is shortened."""
    body = orjson.dumps(_document(event, format, source))
    if limit is not None and len(body) > limit and not event.is_shortened:
        return message(shortened(event), format, source=source, limit=limit)
    is_nest = format is EventFormat.NEST
    return Message(
        id=event.id,
        topic=nest_pattern(event) if is_nest else topic(event),
        type=event.type,
        at=event.at,
        body=body,
        content_type="application/json" if is_nest else CONTENT_TYPE,
        task_id=event.task_id,
        run_id=event.run_id,
    )


def shortened(event: Event) -> Event:
    """Return *event* without fields that may be long."""
    error = event.error[:CUT_ERROR] if event.error else event.error
    return event._replace(payload=None, result=None, error=error, data=None, is_shortened=True)


def _document(event: Event, format: EventFormat, source: str) -> dict[str, Any]:
    return _envelope(event, source) if format is EventFormat.NEST else _cloud_event(event, source)


def topic(event: Event) -> str:
    """Return ``task.completed.http_request``: a topic that every broker accepts, whatever the name of the type."""
    words = f"{event.type}.{event.about}" if event.about else event.type
    return re.sub(r"\.{2,}", ".", words).strip(".") if ".." in words or words[-1] == "." else words


def cloud_event(event: Event, source: str) -> JsonObject:
    """Return *event* as CloudEvents 1.0: ``type`` is ``qw.task.completed.v1``, ``subject`` the task or run.

    A replayed event is returned as it was first published.
    """
    document: JsonObject = orjson.loads(orjson.dumps(_cloud_event(event, source)))
    return document


def _cloud_event(event: Event, source: str) -> dict[str, Any]:
    """Like `cloud_event`, but ids are still UUIDs, which orjson writes in a tenth of the time that ``str`` takes."""
    if event.data and isinstance(replayed := event.data.get(REPLAYED), dict):
        return replayed
    document = {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": f"qw.{event.type}.v1",
        "time": _iso(event.at),
        "datacontenttype": "application/json",
        "data": _data(event),
    }
    if subject := event.task_id or event.run_id:
        document["subject"] = subject
    if event.headers and (traceparent := event.headers.get("traceparent")):
        document["traceparent"] = traceparent
    return document


def _data(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if event.task_id is not None:
        data = {"taskId": event.task_id, "taskType": event.about, "queue": event.queue, "attempt": event.attempt}
    elif event.run_id is not None:
        data = {"workflow": event.about}
    data |= {"runId": event.run_id, "stepId": event.step, "error": masked_error(event.error)}
    data |= {"payload": masked(event.payload), "result": masked(event.result), "shortened": event.is_shortened or None}
    return {**{name: value for name, value in data.items() if value is not None}, **(event.data or {})}


def nest_pattern(event: Event) -> str:
    """Return the pattern of a task to process, such as ``http.request``; for other events, the type of the event."""
    if event.type in DISPATCHING:
        return _PATTERNS.get(event.about or "", OTHER_PATTERN)
    return event.type


def nest_patterns() -> list[str]:
    """Return every pattern that an event may have in the ``nest`` format."""
    return sorted({*_PATTERNS.values(), *TYPES})


def type_of_pattern(pattern: str) -> str | None:
    """Return the task type of a ``nest`` pattern; None if the message must contain the type itself."""
    return next((type for type, known in _PATTERNS.items() if known == pattern), None)


def _restored(event: Event) -> Event:
    """Return a replayed event with the attempt and error of its CloudEvent."""
    replayed = event.data.get(REPLAYED) if event.data else None
    if not isinstance(replayed, dict):
        return event
    said: Any = replayed.get("data", {})
    return event._replace(attempt=said.get("attempt"), error=said.get("error"), data=None)


def _envelope(event: Event, source: str) -> dict[str, Any]:
    """Return ``{"pattern", "data": {taskId, taskType, workflowId?, metadata}}``; the metadata's source is qw."""
    event = _restored(event)
    metadata: dict[str, Any] = {
        "createdAt": _iso(event.created_at or event.at),
        "eventId": event.id,
        "source": source,
    }
    if event.type == "task.retrying":
        metadata["retryCount"] = event.attempt or 0
    known = {
        "taskId": event.task_id,
        "taskType": event.about if event.task_id else None,
        "workflowId": event.workflow_id,
        "runId": event.run_id,
        "error": masked_error(event.error),
    }
    data = {name: value for name, value in known.items() if value is not None}
    return {"pattern": nest_pattern(event), "data": {**data, **(event.data or {}), "metadata": metadata}}


def select(patterns: Iterable[str], *, path: str = "events") -> frozenset[str]:
    """Return the event types that match *patterns* such as ``task.*``. Raise Invalid if a pattern matches none."""
    chosen: set[str] = set()
    faults = []
    for pattern in patterns:
        matching = {type for type in TYPES if fnmatchcase(type, pattern)}
        if not matching:
            faults.append(Fault(path=path, message=f"{pattern[:60]!r} matches no event{guess(pattern, TYPES)}"))
        chosen |= matching
    if faults:
        raise Invalid(*faults)
    return frozenset(chosen)


def default_types(format: EventFormat) -> frozenset[str]:
    """Return the default event types: all but the frequent ones; for nest only those that its consumers use."""
    return DISPATCHING if format is EventFormat.NEST else frozenset(TYPES) - LOUD


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
