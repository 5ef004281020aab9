"""The input of a workflow: declarations under ``input:``, and the check of the given values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from qw.core.errors import Fault, Invalid, guess
from qw.core.expression.evaluation import kind
from qw.core.fields import ANYTHING, TEXT, Field, Object, Type, as_is, by_name
from qw.core.task.payload import Json, JsonObject, payload_faults

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].+)?")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One declared input. If it is not ``required`` and missing, its value is ``default``."""

    type: str
    required: bool
    default: Json = None
    description: str = ""


def _is_date(value: object) -> bool:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "number": ("a number", _is_number),
    "integer": ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "object": ("an object", lambda value: isinstance(value, dict)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "date": ("an ISO 8601 date such as 2026-01-31", _is_date),
    "any": ("any JSON value", lambda value: True),
}


def _declaration(declared: Json, path: str, faults: list[Fault]) -> Input:
    document: JsonObject = declared if isinstance(declared, dict) else {"type": declared}
    if "required" in document:
        message = "an input without default: is required, one with a default (null, too) is not; leave this out"
        faults.append(Fault(path=f"{path}.required", message=message))
    said = INPUT.read({key: value for key, value in document.items() if key != "required"}, path, faults)
    type_, default = document.get("type", "any"), said["default"]
    if not isinstance(type_, str) or type_ not in TYPES:
        message = f"{str(type_)[:60]!r} is not a type; there are {', '.join(TYPES)}{guess(str(type_)[:60], TYPES)}"
        faults.append(Fault(path=path, message=message))
        type_ = "any"
    elif default is not None and not TYPES[type_][1](default):
        faults.append(Fault(path=f"{path}.default", message=f"must be {TYPES[type_][0]}, not {_shown(default)}"))
    return Input(type=type_, required="default" not in document, default=default, description=said["description"])


INPUT = Object(
    "an input",
    {
        "type": Field(as_is({"enum": [*TYPES]}), "Default: any", null=False),
        "default": Field(ANYTHING, "Value where none is given; without it, the input is required"),
        "description": Field(TEXT, default=""),
    },
)
INPUT_SCHEMA: JsonObject = {"anyOf": [{"enum": [*TYPES]}, INPUT.definition]}
INPUTS = by_name(
    Type(_declaration, {"$ref": "#/$defs/input"}),
    _NAME,
    "is not a name of letters, digits, _ and -",
    must="must map names to types",
)
"""Input declarations: ``name: type`` or ``name: {type, default, description}``."""


def check_given(inputs: Mapping[str, Input], given: JsonObject) -> JsonObject:
    """Return *given* with defaults added. Raise Invalid with all faults: missing, unknown, wrong type."""
    faults = payload_faults(given, path="input")
    known = ", ".join(inputs) or "none"
    for name in given:
        if name not in inputs:
            unknown = f"is not an input of the workflow; there are: {known}{guess(name[:60], inputs)}"
            faults.append(Fault(path=f"input.{name[:60]}", message=unknown))
    for name, declared in inputs.items():
        if (message := _fault(declared, name in given, given.get(name))) is not None:
            faults.append(Fault(path=f"input.{name}", message=message))
    if faults:
        raise Invalid(*faults)
    return {name: given.get(name, declared.default) for name, declared in inputs.items()}


def _fault(declared: Input, is_given: bool, value: Json) -> str | None:
    words, is_right = TYPES[declared.type]
    if not is_given:
        return f"is missing; {words} is needed" if declared.required else None
    if value is None and not declared.required and declared.default is None:
        return None
    return None if is_right(value) else f"must be {words}, not {_shown(value)}"


def _shown(value: Json) -> str:
    return repr(value[:60]) if isinstance(value, str) else kind(value)
