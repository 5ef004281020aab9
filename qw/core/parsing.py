"""Checks of a document's shape that every reader of one shares: known keys, strings, lists of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from qw.core.errors import Fault, Invalid, guess
from qw.core.expression.evaluation import kind
from qw.core.task.payload import Json, JsonObject

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""The name of a workflow, a schedule, a command, a webhook."""

_GUESSED_FAULTS = 30  # a guess costs up to a millisecond; a document made to have 10,000 faults must not cost seconds


def hint(word: str, known: Iterable[str], faults: list[Fault]) -> str:
    """A guess for *word*, while there are few *faults*."""
    return guess(word[:60], known) if len(faults) < _GUESSED_FAULTS else ""


def refuse_unknown(document: JsonObject, known: Iterable[str], path: str, what: str, faults: list[Fault]) -> None:
    """One fault for each key of *document* that is not *known*. *what* names the thing: ``a step``.

    Keys that begin with ``x-`` are their writer's own.
    """
    for key in document:
        if key not in known and not key.startswith("x-"):
            message = f"{key[:60]!r} is not a key of {what}{hint(key, known, faults)}"
            faults.append(Fault(path=below(path, key), message=message))


def check_name(name: str, what: str, faults: list[Fault], path: str = "") -> None:
    if not NAME.fullmatch(name):
        message = f"{name[:60]!r} is not a name of a {what}: letters, digits and _ . - (at most 128)"
        faults.append(Fault(path=path, message=message))


def raise_at(where: Callable[[str], str], faults: Iterable[Fault]) -> None:
    """Raise Invalid with *faults*, if there are any; *where* turns a path into a place."""
    if placed := [Fault(path=where(fault.path), message=fault.message) for fault in faults]:
        raise Invalid(*placed)


def string(document: JsonObject, key: str, path: str, faults: list[Fault]) -> str:
    """The string at *key*, empty when it is left out."""
    value = document.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    faults.append(Fault(path=below(path, key), message=f"must be a string, not {kind(value)}"))
    return ""


def mapping(document: JsonObject, key: str, path: str, faults: list[Fault]) -> JsonObject:
    """The object at *key*, empty when it is left out."""
    value = document.get(key)
    if value is None or isinstance(value, dict):
        return value or {}
    faults.append(Fault(path=below(path, key), message=f"must be an object, not {kind(value)}"))
    return {}


def names(value: Json, path: str, faults: list[Fault]) -> tuple[str, ...]:
    """A list of strings, or one string for a list of one. Repeats are dropped."""
    items = [] if value is None else value if isinstance(value, list) else [value]
    for n, item in enumerate(items):
        if not isinstance(item, str):
            faults.append(Fault(path=f"{path}[{n}]", message=f"must be a name, not {kind(item)}"))
    return tuple(dict.fromkeys(item for item in items if isinstance(item, str)))


def below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
