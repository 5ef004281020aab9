"""Converts new tasks to statement parameters: scalars for one task, or arrays for several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from qw.core.task import FIELDS, Backoff, NewTask
from qw.core.task.new_task import SqlType
from qw.store import arrays
from qw.store.connection import to_json

_PACKERS: Mapping[SqlType, Callable[[Iterable[Any]], object]] = {
    "uuid": arrays.uuids,
    "text": arrays.texts,
    "smallint": arrays.smallints,
    "jsonb": lambda values: arrays.jsons(values, Backoff.document),
    "interval": list,
    "timestamptz": list,
}
_ALL = {name: attrgetter(name) for name in FIELDS}
_KEYLESS = {name: _ALL[name] for name in FIELDS if name not in ("unique_key", "idempotency_key")}
_JSON = [name for name, type in FIELDS.items() if type == "jsonb"]


def scalars(task: NewTask) -> dict[str, Any]:
    """Return the fields of a task by name."""
    values = vars(task).copy()
    for name in _JSON:
        values[name] = to_json(_plain(values[name]))
    return values


def arrays_of(tasks: Sequence[NewTask], *, keyed: bool = False) -> dict[str, Any]:
    """Return an array of each field by name; with the keys if *keyed*."""
    fields = _ALL if keyed else _KEYLESS
    return {name: _PACKERS[FIELDS[name]](map(value, tasks)) for name, value in fields.items()}


def _plain(value: object) -> object:
    return value.document() if isinstance(value, Backoff) else value
