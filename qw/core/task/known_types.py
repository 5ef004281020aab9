"""`KnownTypes`: checks whether any registered worker could run a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qw.core.errors import Fault, among
from qw.core.task.json_schema import compiled
from qw.core.task.new_task import NewTask
from qw.core.task.payload import JsonObject

# Built-in types, which accept more than their schemas say: keys in other cases, numbers for strings, one value instead
# of a list.
_LENIENT = frozenset({
    "http_request", "data_processing", "compensation", "fetch_orders", "create_invoice", "generate_pdf", "send_email",
    "command",
})  # fmt: skip


class KnownTypes:
    """The registered types with the JSON Schemas of their payloads (None: any payload), compiled on first use."""

    def __init__(self, schemas: Mapping[str, JsonObject | None]) -> None:
        self._schemas = schemas
        self._checks: dict[str, Callable[[JsonObject], list[Fault]]] = {}

    def faults(self, task: NewTask) -> list[Fault]:
        """Return why no worker would run *task*; empty if one would."""
        if task.is_checked:
            return []
        if (check := self._checks.get(task.type)) is None:
            if task.type not in self._schemas:
                return [Fault(path="", message=self._unknown(task.type))]
            schema = None if task.type in _LENIENT else self._schemas[task.type]
            check = self._checks[task.type] = compiled(schema)
        return check(task.payload)

    def _unknown(self, type: str) -> str:
        known = among(type, sorted(self._schemas))
        return f"unknown task type {type!r}: no worker has registered a handler for it{known}"
