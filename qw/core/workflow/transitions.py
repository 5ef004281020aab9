"""The older form of a workflow: ``{"initialTask": {type, payload}, "transitions": {"<type>": {type, payload}}}``.

A transition names the task that follows a type, so the tasks form a chain; each becomes one step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qw.core.errors import Fault
from qw.core.fields import OBJECT, TEXT, Field, Object, as_is, by_name
from qw.core.parsing import refuse_unknown
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.defaults import DEFAULTS_FIELD
from qw.core.workflow.secrets import SECRETS_FIELD

TASK = Object(
    "a task",
    {"type": Field(as_is(TEXT.schema), required="a task needs a type"), "payload": Field(as_is(OBJECT.schema))},
)
CHAIN = Object(
    "a workflow of transitions",
    {
        "initialTask": Field(as_is(TASK.definition), "The first task", null=False),
        "transitions": Field(by_name(as_is(TASK.definition)), "The task after each type", default={}),
        "description": Field(TEXT, default=""),
        "defaults": DEFAULTS_FIELD,
        "secrets": SECRETS_FIELD,
    },
)


def chain(task: Json, transitions: Mapping[str, Json], faults: list[Fault]) -> list[tuple[str, Json]]:
    """Return the steps, starting with *task*, each with the path of its task in the document."""
    steps: list[tuple[str, JsonObject]] = []
    path = "initialTask"
    seen: list[str] = []
    while (type_ := _type(task, path, faults)) is not None:
        if type_ in seen:
            faults.append(Fault(path=path, message=f"the transitions form a cycle: {' → '.join([*seen, type_])}"))
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
    return [*steps]


def _type(task: Json, path: str, faults: list[Fault]) -> str | None:
    if isinstance(task, dict):
        refuse_unknown(task, TASK.keys, path, "a task", faults)
        if isinstance(type_ := task.get("type"), str):
            return type_
    faults.append(Fault(path=path, message="must be an object with a type and a payload"))
    return None


def _step(type_: str, task: Json, before: list[tuple[str, JsonObject]]) -> JsonObject:
    assert isinstance(task, dict)
    step: JsonObject = {"id": re.sub(r"[^A-Za-z0-9_-]", "_", type_), "type": type_, "with": task.get("payload")}
    if before:
        step["needs"] = [before[-1][1]["id"]]
    return step
