"""The options that describe a new task, from the command line or a line of JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from qw.cli.options.values import delay, duration, moment
from qw.core.errors import Fault, Invalid, guess
from qw.core.ids import parse_id
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, NewTask, check_new
from qw.store.ids import new_id

KEYS = ("type", "payload", "queue", "priority", "in", "at", "key", "idempotency_key", "max_retries", "timeout", "id")


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Options as given; None means the value comes from the line of JSON or the defaults."""

    type: str | None = None
    queue: str | None = None
    priority: int | None = None
    delay: str | None = None
    at: str | None = None
    key: str | None = None
    idempotency_key: str | None = None
    max_retries: int | None = None
    timeout: str | None = None
    id: str | None = None

    def one(self, payload: object) -> NewTask:
        """The task with *payload*. Raise Invalid that names the flags."""
        if self.delay is not None and self.at is not None:
            raise Invalid("give --in or --at, not both")
        delay(self.delay, "--in")
        try:
            return self.task({"payload": payload})
        except Invalid as error:
            raise Invalid(*(replace(each, path=_FLAGS.get(each.path, each.path)) for each in error.faults)) from None

    def task(self, line: dict[str, Any]) -> NewTask:
        """The task described by *line*, with the options as defaults. Raise Invalid with every fault."""
        if unknown := [key for key in line if key not in KEYS]:
            raise Invalid(*(f"{key[:60]!r} is not a field of a task{guess(key, KEYS)}" for key in unknown[:10]))
        asked = {name: value for name, value in vars(self).items() if value is not None}
        if "in" in line or "at" in line:
            asked.pop("delay", None)
            asked.pop("at", None)
        given = {**asked, **{_FIELDS.get(key, key): value for key, value in line.items() if value is not None}}
        if "type" not in given:
            raise Invalid("no task type given")
        task = NewTask(
            type=given["type"],
            id=parse_id(str(given["id"])) if "id" in given else new_id(),
            payload=given.get("payload", {}),
            queue=given.get("queue", DEFAULT_QUEUE),
            priority=given.get("priority", DEFAULT_PRIORITY),
            run_at=moment(_text(given.get("at"), "at"), "at"),
            delay=_duration(given.get("delay"), "in"),
            max_retries=given.get("max_retries"),
            timeout=_duration(given.get("timeout"), "timeout"),
            unique_key=given.get("key"),
            idempotency_key=given.get("idempotency_key"),
        )
        check_new(task)
        return task


_FIELDS = {"in": "delay"}
_FLAGS = {
    **{key: f"--{key.replace('_', '-')}" for key in KEYS if key != "type"},
    "unique_key": "--key", "delay": "--in", "run_at": "--at",
}  # fmt: skip


def _text(value: object, path: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise Invalid(Fault(path=path, message="must be text"))


def _duration(value: object, path: str) -> timedelta | None:
    """Text as people write durations, or seconds."""
    return duration(str(value) if isinstance(value, (int, float)) else _text(value, path), path)
