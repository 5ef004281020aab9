"""The names that a workflow refers to: other workflows, and declared commands. Reads documents, as stored with
runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from qw.core.task.payload import Json, JsonObject

Reference: TypeAlias = tuple[str, str]
"""A kind, ``workflow`` or ``command``, and a name."""


def references(document: Mapping[str, Json]) -> set[Reference]:
    """Return what all steps of a workflow start, including ``on_failure``, ``finally`` and compensations."""
    return {found for task in _tasks(document) if (found := _reference(task))}


def _tasks(document: Mapping[str, Json]) -> Iterator[JsonObject]:
    for key in ("steps", "on_failure", "finally"):
        steps = document.get(key)
        for step in steps if isinstance(steps, list) else ():
            if isinstance(step, dict):
                yield step
                if isinstance(undo := step.get("compensate"), dict):
                    yield undo
    transitions = document.get("transitions")
    for task in (document.get("initialTask"), *(transitions.values() if isinstance(transitions, dict) else ())):
        if isinstance(task, dict):
            yield {"type": task.get("type"), "with": task.get("payload")}


def _reference(task: JsonObject) -> Reference | None:
    kind, given = task.get("type"), task.get("with")
    if kind in ("workflow", "command") and isinstance(given, dict) and isinstance(name := given.get(str(kind)), str):
        return str(kind), name
    return None


__all__ = ["Reference", "references"]
