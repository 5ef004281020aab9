"""The older form of a workflow: ``{"initialTask": {type, payload}, "transitions": {"<type>": {type, payload}}}``.

A transition names what follows a type, so that the whole is a chain; it becomes one step per task.
"""

from __future__ import annotations

import re

from qw.core.errors import Fault
from qw.core.parsing import mapping, refuse_unknown
from qw.core.task.payload import Json, JsonObject

KEYS = ("initialTask", "transitions", "description")


def chain(document: JsonObject, faults: list[Fault]) -> list[tuple[str, JsonObject]]:
    """The steps that *document* stands for, each with the path of the task that it came from."""
    refuse_unknown(document, KEYS, "", "a workflow of transitions", faults)
    transitions = mapping(document, "transitions", "", faults)
    steps: list[tuple[str, JsonObject]] = []
    path, task = "initialTask", document["initialTask"]
    seen: list[str] = []
    while (type_ := _type(task, path, faults)) is not None:
        if type_ in seen:
            faults.append(Fault(path=path, message=f"the transitions never end: {' → '.join([*seen, type_])}"))
            return []
        seen.append(type_)
        steps.append((path, _step(type_, task, steps)))
        if type_ not in transitions:
            break
        path, task = f"transitions.{type_}", transitions[type_]
    faults += [
        Fault(path=f"transitions.{type_}", message=f"no task of the type {type_[:60]!r} comes before it")
        for type_ in transitions
        if type_ not in seen
    ]
    return steps


def _type(task: Json, path: str, faults: list[Fault]) -> str | None:
    if not isinstance(task, dict) or not isinstance(type_ := task.get("type"), str):
        faults.append(Fault(path=path, message="must be an object with a type and a payload"))
        return None
    refuse_unknown(task, ("type", "payload"), path, "a task", faults)
    return type_


def _step(type_: str, task: Json, before: list[tuple[str, JsonObject]]) -> JsonObject:
    assert isinstance(task, dict)
    step: JsonObject = {"id": re.sub(r"[^A-Za-z0-9_-]", "_", type_), "type": type_, "with": task.get("payload")}
    if before:
        step["needs"] = [before[-1][1]["id"]]
    return step
