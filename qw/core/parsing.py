"""Checks shared by all readers of documents: unknown keys, strings, lists of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from qw.core.errors import Fault, Invalid, guess
from qw.core.expression.evaluation import kind
from qw.core.task.payload import Json, JsonObject

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""The name of a workflow, schedule, command or webhook."""

NOWHERE: Mapping[str, str] = MappingProxyType({})

_GUESSED_FAULTS = 30  # a guess takes up to 1 ms; a malicious document with 10,000 faults must not take seconds


def hint(word: str, known: Iterable[str], faults: list[Fault]) -> str:
    """Return a guess for *word*, or an empty string once there are many *faults*."""
    return guess(word[:60], known) if len(faults) < _GUESSED_FAULTS else ""


def refuse_unknown(
    document: JsonObject,
    known: Iterable[str],
    path: str,
    what: str,
    faults: list[Fault],
    elsewhere: Mapping[str, str] = NOWHERE,
) -> None:
    """Add a fault for each key of *document* that is not *known*. *what* names the object: ``a step``.

    Keys that start with ``x-`` are reserved for users and ignored. *elsewhere*: for other keys, what to write instead.
    """
    for key in document:
        if key not in known and not key.startswith("x-"):
            advice = f"; {elsewhere[key]}" if key in elsewhere else hint(key, known, faults)
            message = f"{key[:60]!r} is not a key of {what}{advice}"
            faults.append(Fault(path=below(path, key), message=message))


def check_name(name: str, what: str, faults: list[Fault], path: str = "") -> None:
    if not NAME.fullmatch(name):
        message = f"{name[:60]!r} is not a name of a {what}: letters, digits and _ . - (at most 128)"
        faults.append(Fault(path=path, message=message))


def raise_at(where: Callable[[str], str], faults: Iterable[Fault]) -> None:
    """Raise Invalid with *faults*, if there are any; *where* converts a path to a place in the file."""
    if placed := [Fault(path=where(fault.path), message=fault.message) for fault in faults]:
        raise Invalid(*placed)


def string(document: JsonObject, key: str, path: str, faults: list[Fault]) -> str:
    """Return the string at *key*; empty if the key is missing."""
    value = document.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    faults.append(Fault(path=below(path, key), message=f"must be a string, not {kind(value)}"))
    return ""


def mapping(document: JsonObject, key: str, path: str, faults: list[Fault]) -> JsonObject:
    """Return the object at *key*; empty if the key is missing."""
    value = document.get(key)
    if value is None or isinstance(value, dict):
        return value or {}
    faults.append(Fault(path=below(path, key), message=f"must be an object, not {kind(value)}"))
    return {}


def names(value: Json, path: str, faults: list[Fault]) -> tuple[str, ...]:
    """Return the names in *value*, a list of strings or one string, without duplicates."""
    items = [] if value is None else value if isinstance(value, list) else [value]
    for n, item in enumerate(items):
        if not isinstance(item, str):
            faults.append(Fault(path=f"{path}[{n}]", message=f"must be a name, not {kind(item)}"))
    return tuple(dict.fromkeys(item for item in items if isinstance(item, str)))


def below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
