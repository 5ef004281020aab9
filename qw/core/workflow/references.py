"""What a workflow starts by name: other workflows, and declared commands. Reads documents, such as runs have pinned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from qw.core.task.payload import Json, JsonObject

Reference: TypeAlias = tuple[str, str]
"""Its kind, ``workflow`` or ``command``, and its name."""


def references(document: Mapping[str, Json]) -> set[Reference]:
    """What the steps of a workflow start, with those of ``on_failure`` and ``finally``, and the compensations."""
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
