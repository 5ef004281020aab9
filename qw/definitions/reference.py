"""The reference page of definition files, made from their JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from qw.core.expression.evaluation import FUNCTIONS
from qw.core.fields import Object
from qw.core.workflow.inputs import TYPES
from qw.core.workflow.step_kinds import KINDS, PARAMETERS
from qw.definitions.schema import FILE, OBJECTS

_TITLES = {
    "workflow": "A workflow (`workflows:`)",
    "step": "A step (`steps:`)",
    "late": "A step of `on_failure:` and `finally:`",
    "compensation": "`compensate:` of a step",
    "retry": "`retry:`",
    "defaults": "`defaults:`",
    "template": "A step template (`templates:`)",
    "concurrency": "`concurrency:`",
    "repeat": "`repeat:` of a step",
    "secret": "A secret (`secrets:`)",
    "schedule": "A schedule (`schedules:`)",
    "queue": "A queue (`queues:`)",
    "command": "A command (`commands:`)",
    "webhook": "A webhook (`webhooks:`)",
    "remote": "A remote task type (`remote:`)",
    "test": "A test (`tests:`)",
}


def reference() -> str:
    """Return the page in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Reference of definition files"
    yield ""
    yield "Made by `scripts/reference` from the schema that `qw workflow schema` prints. Keys that begin with `x-` are"
    yield "allowed everywhere and ignored. The keys are explained in [workflows.md](../workflows.md)."
    yield from _table("A file", FILE)
    for name, title in _TITLES.items():
        yield from _table(title, OBJECTS[name])
    yield from ("", "## Types of inputs and parameters", "", "| type | value |", "| --- | --- |")
    yield from (f"| `{name}` | {words} |" for name, (words, _) in TYPES.items())
    for name, kind in KINDS.items():
        if PARAMETERS[kind].fields:
            yield from _table(f"`with:` of a step of type `{name}`", PARAMETERS[kind])
    yield from ("", "## Functions of expressions", "", "| function | arguments |", "| --- | --- |")
    yield from (f"| `{name}` | {_count(low, high)} |" for name, (low, high, *_) in sorted(FUNCTIONS.items()))


def _table(title: str, described: Object) -> Iterator[str]:
    yield from ("", f"## {title}", "", "| key | value | |", "| --- | --- | --- |")
    for key, field in described.fields.items():
        words = [field.about, f"also `{field.alias}`" if field.alias else "", "required" if field.required else ""]
        yield f"| `{key}` | {_value(field.type.schema)} | {'; '.join(filter(None, words))} |".replace("  ", " ")


def _value(below: Any) -> str:
    if "$ref" in below:
        name = below["$ref"].rpartition("/")[2]
        return {"names": "a name, or a list of names", "duration": "a duration"}.get(name, f"`{name}`")
    if "const" in below:
        return f"`{json.dumps(below['const'])}`"
    if "enum" in below:
        return ", ".join(f"`{value}`" for value in below["enum"])
    if "anyOf" in below:
        return " or ".join(dict.fromkeys(_value(value) for value in below["anyOf"] if value != {"type": "null"}))
    kinds = below.get("type", "any")
    words = [_kind(kind, below) for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null"]
    return " or ".join(words)


def _kind(kind: str, below: Any) -> str:
    if kind == "array":
        return f"a list of {_value(below['items'])}" if "$ref" in below.get("items", {}) else "a list"
    if kind == "object" and (more := below.get("additionalProperties")):
        return f"{_value(more)} by name"
    words = {"string": "text", "object": "an object", "integer": "an integer", "number": "a number", "any": "any value"}
    text = words.get(kind, "true or false")
    if "minimum" in below and kind in ("integer", "number"):
        text += f" from {below['minimum']}" + (f" to {below['maximum']}" if "maximum" in below else "")
    return text


def _count(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
