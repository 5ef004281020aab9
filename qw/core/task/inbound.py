"""Messages from brokers that request a task, as a CloudEvent or in the ``nest`` envelope.

Both have the same ``data``: ``taskType`` and ``payload``, and optionally ``queue``, ``priority``, ``delay``,
``scheduledAt``, ``maxRetries``, ``timeout``, ``uniqueKey`` and ``headers``. In the envelope, the pattern may replace
the type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.event import type_of_pattern
from qw.core.ids import parse_id
from qw.core.task.new_task import FIELDS, JSON_KEYS, RESERVED_HEADERS, NewTask, SqlType, check_new
from qw.core.task.payload import Json, JsonObject, parse_object

OWN = "/qw/"  # the prefix of ``source`` in qw's own messages


@dataclass(frozen=True, kw_only=True)
class InboundCommand:
    """A requested task. ``message_id``: the sender's id, used to ignore repeated messages; None if there is none."""

    type: str
    data: JsonObject
    message_id: str | None


def read(body: bytes, message_id: str | None) -> InboundCommand | None:
    """Parse a message; return None for a message that qw sent itself. Raise Invalid if it cannot be parsed."""
    document = parse_object(body, path="message")
    data = document.get("data")
    if not isinstance(data, dict):
        raise Invalid(Fault(path="message.data", message="must be an object with taskType and payload"))
    if _is_own(document, data):
        return None
    type = _task_type(document, data)
    id = document["id"] if isinstance(document.get("id"), str) and "specversion" in document else data.get("taskId")
    known = message_id or (str(id) if isinstance(id, str) else None)
    return InboundCommand(type=type, data=data, message_id=known)


def _is_own(document: JsonObject, data: JsonObject) -> bool:
    metadata = data.get("metadata")
    sources = (document.get("source"), metadata.get("source") if isinstance(metadata, dict) else None)
    return any(isinstance(source, str) and source.startswith(OWN) for source in sources)


def _task_type(document: JsonObject, data: JsonObject) -> str:
    type = data.get("taskType") or type_of_pattern(str(document.get("pattern")))
    if not isinstance(type, str):
        raise Invalid(Fault(path="message.data.taskType", message="must be the type of the task"))
    return type


def task_of(asked: InboundCommand, id: UUID) -> NewTask:
    """Return the requested task, with *id* unless the message has a ``taskId``. Raise Invalid with all faults."""
    data = asked.data
    faults: list[Fault] = []

    def field(name: str, parse: Callable[[Any], Any]) -> Any:
        value = data.get(name)
        try:
            return None if value is None else parse(value)
        except (Invalid, ValueError, TypeError) as error:
            faults.append(Fault(path=f"message.data.{name}", message=str(error)))

    values = {name: field(key, _PARSERS[FIELDS[name]]) for name, key in JSON_KEYS.items()}
    options: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    task = NewTask(
        type=asked.type,
        id=field("taskId", lambda value: parse_id(str(value))) or id,
        payload=_payload(asked, faults),
        idempotency_key=None if asked.message_id is None else f"message:{asked.message_id}"[:512],
        headers=field("headers", _headers),
        **options,
    )
    if faults:
        raise Invalid(*faults)
    check_new(task)
    return task


def _payload(asked: InboundCommand, faults: list[Fault]) -> JsonObject:
    payload = asked.data.get("payload")
    if payload is None:
        return {}
    if not isinstance(payload, dict):
        faults.append(Fault(path="message.data.payload", message="must be a JSON object"))
        return {}
    if asked.type == "command" and ("argv" in payload or "run" in payload):
        message = "over a broker, only declared commands can be run: argv, run and shell are not accepted"
        faults.append(Fault(path="message.data.payload", message=message))
    return payload


def _whole(value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not an integer")
    return value


def _moment(value: Json) -> datetime:
    return datetime.fromisoformat(str(value))


_PARSERS: dict[SqlType, Callable[[Json], Any]] = {
    "text": str,
    "smallint": _whole,
    "timestamptz": _moment,
    "interval": parse_duration,
}


def _headers(value: Json) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return {str(name): str(text) for name, text in value.items() if not str(name).lower().startswith(RESERVED_HEADERS)}
