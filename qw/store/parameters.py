"""The fields of new tasks as parameters of statements: one task by one, or packed as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from qw.core.task import FIELDS, Backoff, NewTask
from qw.core.task.new_task import SqlType
from qw.store import arrays
from qw.store.connection import to_json

_KEYS = ("unique_key", "idempotency_key")
_PACKERS: Mapping[SqlType, Callable[[Iterable[Any]], object]] = {
    "uuid": arrays.uuids,
    "text": arrays.texts,
    "smallint": arrays.smallints,
    "jsonb": lambda values: arrays.texts(map(_json, values)),
    "interval": list,
    "timestamptz": list,
}
_PLAIN = [(name, attrgetter(name), _PACKERS[type]) for name, type in FIELDS.items() if name not in _KEYS]
_KEYED = [(name, attrgetter(name), _PACKERS[type]) for name, type in FIELDS.items()]
_JSON = [name for name, type in FIELDS.items() if type == "jsonb"]


def scalars(task: NewTask) -> dict[str, Any]:
    """Each field by its name."""
    values = vars(task).copy()
    for name in _JSON:
        values[name] = _json(values[name])
    return values


def arrays_of(tasks: Sequence[NewTask], *, keyed: bool = False) -> dict[str, Any]:
    """An array of each field by its name; those of the keys if *keyed*."""
    return {name: pack(map(value, tasks)) for name, value, pack in (_KEYED if keyed else _PLAIN)}


def _json(value: object) -> str | None:
    return to_json(value.document() if isinstance(value, Backoff) else value)
