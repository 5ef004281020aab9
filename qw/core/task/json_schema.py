"""The part of JSON Schema that describes payloads of handlers: compiled once, checked for each payload.

Unsupported keywords (``format``, ``if``, references to other documents) reject nothing. The worker checks the payload
again, so a payload accepted by mistake costs one attempt, but one rejected by mistake would lose a task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from qw.core.errors import Fault, among
from qw.core.task.payload import JsonObject, kind_of

Found: TypeAlias = Sequence[tuple[str, str]]  # path below the value, and message
Check: TypeAlias = Callable[[Any], Found]
Rule: TypeAlias = "Callable[[_Compiler, dict[str, Any]], Check]"

_FINE: Found = ()
_MOST = 10  # the most faults reported for a payload
_SHOWN = 60  # characters of a key in a message


def compiled(schema: JsonObject | None) -> Callable[[JsonObject], list[Fault]]:
    """Compile *schema* to a function that returns at most ten faults of a payload; None if it accepts any payload."""
    if schema is None:
        return lambda payload: []
    try:
        check = _Compiler(schema).check(schema)
    except (AttributeError, TypeError):  # not a JSON Schema, such as a list under "properties"
        return lambda payload: []

    def faults(payload: JsonObject) -> list[Fault]:
        try:
            return [Fault(path=f"payload{place}", message=text) for place, text in check(payload)[:_MOST]]
        except RecursionError:  # a reference to itself
            return []

    return faults


class _Compiler:
    """Compiles one document; references to its ``$defs`` are resolved."""

    def __init__(self, document: JsonObject) -> None:
        self._document = document
        self._referred: dict[str, Check] = {}

    def check(self, schema: Any) -> Check:
        if schema is False:
            return lambda value: (("", "is not allowed"),)
        if not isinstance(schema, dict):
            return _anything
        return _all([make(self, schema) for keywords, make in _RULES if not keywords.isdisjoint(schema)])

    def reference(self, schema: dict[str, Any]) -> Check:
        """A definition may contain itself, so it is compiled when a value first reaches it."""
        name = str(schema["$ref"])

        def check(value: Any) -> Found:
            if name not in self._referred:
                self._referred[name] = self.check(self._definition(name))
            return self._referred[name](value)

        return check

    def _definition(self, name: str) -> Any:
        if not name.startswith("#"):
            return True
        definition: Any = self._document
        for part in name[1:].split("/")[1:]:
            definition = (
                definition.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(definition, dict) else None
            )
        return definition


def _anything(value: Any) -> Found:
    return _FINE


def _all(checks: Sequence[Check]) -> Check:
    if len(checks) < 2:
        return checks[0] if checks else _anything

    def check(value: Any) -> Found:
        failures: list[tuple[str, str]] = []
        for apply in checks:
            if faults := apply(value):
                failures += faults
        return failures

    return check


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "object": ("an object", lambda value: isinstance(value, dict)),
    "array": ("a list", lambda value: isinstance(value, (list, tuple))),
    "string": ("a string", lambda value: isinstance(value, str)),
    "integer": ("an integer", lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer())),
    "number": ("a number", _is_number),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "null": ("null", lambda value: value is None),
}


def _type(_: _Compiler, schema: dict[str, Any]) -> Check:
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    known = [_TYPES[name] for name in names if name in _TYPES]
    if len(known) < len(names):
        return _anything
    wanted = " or ".join(name for name, _ in known)
    tests = [test for _, test in known]

    def check(value: Any) -> Found:
        for test in tests:
            if test(value):
                return _FINE
        return (("", f"must be {wanted}, not {kind_of(value)}"),)

    return check


def _values(_: _Compiler, schema: dict[str, Any]) -> Check:
    values = [schema["const"]] if "const" in schema else schema["enum"]
    wanted = [_strictly(value) for value in values]
    said = ", ".join(json.dumps(value, ensure_ascii=False)[:_SHOWN] for value in values)
    fault = (("", f"must be {said}" if len(values) == 1 else f"must be one of {said}"),)
    return lambda value: _FINE if _strictly(value) in wanted else fault


def _strictly(value: Any) -> Any:
    """Return a value that is equal only for equal JSON: in Python, True equals 1."""
    return (type(value), value) if isinstance(value, bool) else value


def _object(compiler: _Compiler, schema: dict[str, Any]) -> Check:
    properties = {name: compiler.check(below) for name, below in schema.get("properties", {}).items()}
    required = schema.get("required", [])
    extra = True if "patternProperties" in schema else schema.get("additionalProperties", True)
    others = None if extra is True else compiler.check(extra)
    least, most = schema.get("minProperties", 0), schema.get("maxProperties")

    def check(value: Any) -> Found:
        if not isinstance(value, dict):
            return _FINE
        failures: list[tuple[str, str]] = []
        for name in required:
            if name not in value:
                failures.append((f".{name}", "is missing"))
        for name, below in value.items():
            if (known := properties.get(name)) is not None:
                if faults := known(below):
                    failures += _below(f".{name}", faults)
            elif extra is False:
                failures.append((f".{name[:_SHOWN]}", f"is unknown{among(name[:_SHOWN], properties)}"))
            elif others is not None and (faults := others(below)):
                failures += _below(f".{name[:_SHOWN]}", faults)
        if len(value) < least:
            failures.append(("", f"has {len(value)} keys; at least {least} are needed"))
        if most is not None and len(value) > most:
            failures.append(("", f"has {len(value)} keys; at most {most} are allowed"))
        return failures

    return check


def _array(compiler: _Compiler, schema: dict[str, Any]) -> Check:
    first = [compiler.check(below) for below in schema.get("prefixItems", [])]
    rest = compiler.check(schema.get("items", True))
    length = _length(schema, "minItems", "maxItems", "items")

    def check(value: Any) -> Found:
        if not isinstance(value, (list, tuple)):
            return _FINE
        failures = [*length(len(value))]
        for number, below in enumerate(value):
            if faults := (first[number] if number < len(first) else rest)(below):
                failures += _below(f"[{number}]", faults)
                if len(failures) >= _MOST:
                    break
        return failures

    return check


def _text(_: _Compiler, schema: dict[str, Any]) -> Check:
    length = _length(schema, "minLength", "maxLength", "characters")
    pattern = schema.get("pattern")

    def check(value: Any) -> Found:
        if not isinstance(value, str):
            return _FINE
        if pattern is not None and not _matches(pattern, value):
            return (("", f"does not match {pattern}"),)
        return length(len(value))

    return check


def _matches(pattern: str, text: str) -> bool:
    from qw.core.expression.pattern import search

    try:
        return search(pattern, text)
    except ValueError:  # needs a backtracking engine: left to the worker
        return True


def _length(schema: dict[str, Any], least_word: str, most_word: str, noun: str) -> Check:
    least, most = schema.get(least_word, 0), schema.get(most_word)

    def check(length: Any) -> Found:
        if length < least:
            return (("", f"has {length:,} {noun}; at least {least:,} are needed"),)
        if most is not None and length > most:
            return (("", f"has {length:,} {noun}; at most {most:,} are allowed"),)
        return _FINE

    return check


_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda value, bound: value >= bound),
    "maximum": ("at most", lambda value, bound: value <= bound),
    "exclusiveMinimum": ("more than", lambda value, bound: value > bound),
    "exclusiveMaximum": ("less than", lambda value, bound: value < bound),
}


def _number(_: _Compiler, schema: dict[str, Any]) -> Check:
    bounds = [
        (*_BOUNDS[word], schema[word]) for word in _BOUNDS if word in schema and _is_number(schema[word])
    ]  # a boolean bound belongs to an old draft

    def check(value: Any) -> Found:
        if not _is_number(value):
            return _FINE
        return [("", f"must be {word} {bound}") for word, holds, bound in bounds if not holds(value, bound)]

    return check


def _any_of(compiler: _Compiler, schema: dict[str, Any]) -> Check:
    checks = [compiler.check(branch) for branch in schema.get("anyOf") or schema["oneOf"]]

    def check(value: Any) -> Found:
        tried: list[Found] = []
        for apply in checks:
            faults = apply(value)
            if not faults:
                return _FINE
            tried.append(faults)
        return _nearest(tried)

    return check


def _nearest(tried: Sequence[Found]) -> Found:
    """Return the faults of the alternative with the right type and fewest faults, else one fault naming them all."""
    meant = [faults for faults in tried if all(place for place, _ in faults)]
    if meant:
        return min(meant, key=len)
    said = dict.fromkeys(text for faults in tried for place, text in faults if not place)
    return (("", "; or ".join(said)),)


def _every(compiler: _Compiler, schema: dict[str, Any]) -> Check:
    return _all([compiler.check(part) for part in schema["allOf"]])


_RULES: Sequence[tuple[frozenset[str], Rule]] = (
    (frozenset({"$ref"}), _Compiler.reference),
    (frozenset({"type"}), _type),
    (frozenset({"const", "enum"}), _values),
    (
        frozenset({"properties", "required", "additionalProperties", "minProperties", "maxProperties"}),
        _object,
    ),
    (frozenset({"items", "prefixItems", "minItems", "maxItems"}), _array),
    (frozenset({"minLength", "maxLength", "pattern"}), _text),
    (frozenset(_BOUNDS), _number),
    (frozenset({"anyOf", "oneOf"}), _any_of),
    (frozenset({"allOf"}), _every),
)


def _below(place: str, faults: Found) -> list[tuple[str, str]]:
    return [(place + deeper, text) for deeper, text in faults]
