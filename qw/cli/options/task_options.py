"""The options of a new task, from the command line or a line of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from qw.cli.options.values import delay, duration, moment
from qw.cli.output.records import say
from qw.clock import clock
from qw.core.errors import Fault, Invalid, guess
from qw.core.ids import parse_id
from qw.core.task import FIELDS, JSON_KEYS, NewTask, check_new
from qw.core.task.new_task import SqlType
from qw.store.ids import new_id

_NAMES = {"delay": "in", "run_at": "at", "unique_key": "key"}  # options whose names differ from their fields
_FIELDS = {_NAMES.get(name, name): name for name in (*JSON_KEYS, "idempotency_key", "id")}
_KEYS = ("type", "payload", *_FIELDS)
_FLAGS = {name: f"--{option.replace('_', '-')}" for option, name in _FIELDS.items()} | {"payload": "--payload"}


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """The option values by field. A field that is None comes from the line of JSON or has its default."""

    type: str | None
    values: Mapping[str, Any]

    def one(self, payload: object) -> NewTask:
        """Return the task with *payload*. Raise Invalid that names the options."""
        if self.values.get("delay") is not None and self.values.get("run_at") is not None:
            raise Invalid("give --in or --at, not both")
        delay(self.values.get("delay"), "--in")
        try:
            task = self.task({"payload": payload})
        except Invalid as error:
            faults = (replace(fault, path=_flag(fault.path)) for fault in error.faults)
            raise Invalid(*faults) from None
        if task.run_at is not None and task.run_at < clock.now() - timedelta(minutes=1):
            say(f"qw: {task.run_at:%Y-%m-%d %H:%M %Z} has passed; the task runs at once")
        return task

    def task(self, line: dict[str, Any]) -> NewTask:
        """Return the task described by *line*, with the options as defaults. Raise Invalid with every fault."""
        if unknown := [key for key in line if key not in _KEYS]:
            raise Invalid(*(f"{key[:60]!r} is not a field of a task{guess(key, _KEYS)}" for key in unknown[:10]))
        values = {**self.values}
        if "in" in line or "at" in line:
            values |= {"delay": None, "run_at": None}
        values |= {name: line[option] for option, name in _FIELDS.items() if line.get(option) is not None}
        type = self.type if line.get("type") is None else line["type"]
        if type is None:
            raise Invalid("no task type given")
        options: dict[str, Any] = {
            name: _PARSERS.get(FIELDS[name], _as_is)(value, _NAMES.get(name, name))
            for name, value in values.items()
            if value is not None
        }
        payload = {} if line.get("payload") is None else line["payload"]
        task = NewTask(type=type, payload=payload, **{"id": new_id(), **options})
        check_new(task)
        return task


def _flag(path: str) -> str:
    return _FLAGS.get(path) or _FLAGS.get(_FIELDS.get(path, ""), path)


def _as_is(value: Any, path: str) -> Any:
    return value


def _text(value: object, path: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise Invalid(Fault(path=path, message="must be text"))


def _duration(value: object, path: str) -> timedelta | None:
    """Parse a duration (``5m``) or a number of seconds."""
    return duration(str(value) if isinstance(value, (int, float)) else _text(value, path), path)


_PARSERS: Mapping[SqlType, Callable[[Any, str], Any]] = {
    "timestamptz": lambda value, path: moment(_text(value, path), path),
    "interval": _duration,
    "uuid": lambda value, path: parse_id(str(value)),
}
