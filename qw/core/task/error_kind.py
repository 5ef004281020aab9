"""Kinds of errors, by which retries, conditions and users distinguish failures.

A kind is a word of `ERROR_KINDS`, some with a number after a colon (``exit:75``, ``http:503``); for any other
exception of a handler it is the name of its class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from qw.core.errors import guess

TIMEOUT, CONNECTION, CRASH, LOST, CANCELLED = "timeout", "connection", "crash", "lost", "cancelled"
INVALID, REJECTED, EXPRESSION, EXHAUSTED, WORKFLOW = "invalid", "rejected", "expression", "exhausted", "workflow"
EXIT, HTTP = "exit", "http"

ERROR_KINDS: Mapping[str, str] = {
    EXIT: "a command ended with an exit code: exit:75; 128 + n for signal n",
    HTTP: "a server answered with a status that is not 2xx: http:503",
    TIMEOUT: "an attempt, a request or a wait took longer than its timeout",
    CONNECTION: "a connection could not be made, or broke",
    CRASH: "the worker process died while it ran the task",
    LOST: "the worker was silent for a lease while it ran the task",
    INVALID: "the payload does not fit the handler, or the result cannot be stored",
    REJECTED: "the handler rejected the task (Reject), or somebody the approval",
    CANCELLED: "the task was cancelled",
    EXPRESSION: "an expression of the step has no value",
    EXHAUSTED: "the condition of a `repeat` was not met after its last round",
    WORKFLOW: "a started workflow failed, though none of its steps did; in lists of kinds: any failure of a workflow",
}
_NUMBERED = (EXIT, HTTP)

_OF_CLASSES: Mapping[str, str] = {
    "TimeoutError": TIMEOUT,
    "TimeoutException": TIMEOUT,
    "ConnectionError": CONNECTION,
    "NetworkError": CONNECTION,
    "RemoteProtocolError": CONNECTION,
    "Misfit": INVALID,
    "Invalid": INVALID,
    "ResultTooLarge": INVALID,
    "Reject": REJECTED,
    "CancelledError": CANCELLED,
}

_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,200}")
_PATTERN = re.compile(r"(exit|http):([0-9x]{1,3})")
_KIND = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}(:[A-Za-z0-9_.-]{1,99})?")


def kind_of(names: Iterable[str]) -> str:
    """Return the kind of an exception with these class names, most specific first."""
    listed = list(names)
    return next((_OF_CLASSES[name] for name in listed if name in _OF_CLASSES), listed[0] if listed else "")


def is_kind(value: object) -> bool:
    """Whether an exception may set this text as its kind."""
    return isinstance(value, str) and bool(_KIND.fullmatch(value))


def code_of(kind: str | None) -> int | None:
    """Return the exit code or HTTP status in *kind*; None if it has none."""
    word, _, number = (kind or "").partition(":")
    return int(number) if word in _NUMBERED and number.isdecimal() else None


def matches(patterns: Iterable[str], kind: str | None, names: Iterable[str] = ()) -> bool:
    """Whether one of *patterns* is the kind, its first word, the kind with x for any digit, or a class name."""
    known = {kind, (kind or "").partition(":")[0], *names}
    return any(pattern in known or ("x" in pattern and _fits(pattern, kind)) for pattern in patterns)


def _fits(pattern: str, kind: str | None) -> bool:
    word, _, digits = pattern.partition(":")
    return bool(kind and _PATTERN.fullmatch(pattern) and re.fullmatch(f"{word}:{digits.replace('x', '[0-9]')}", kind))


def pattern_fault(pattern: str) -> str | None:
    """Return what is wrong with *pattern*, which must be a kind or the name of an exception class; None if valid."""
    word = pattern.partition(":")[0]
    if ":" in pattern and word in _NUMBERED:
        is_right = _PATTERN.fullmatch(pattern) and (word == EXIT or len(pattern) == len("http:200"))
        return None if is_right else f"{pattern[:60]!r} is not a kind of error; write {word}:{_EXAMPLES[word]}"
    if pattern in ERROR_KINDS or (_KIND.fullmatch(pattern) and ":" in pattern and not guess(word, ERROR_KINDS)):
        return None
    if _CLASS.fullmatch(pattern) and not (pattern.islower() and guess(pattern, ERROR_KINDS)):
        return None
    known = ", ".join(ERROR_KINDS)
    return f"{pattern[:60]!r} is not a kind of error ({known}) or an exception class{guess(word[:60], ERROR_KINDS)}"


_EXAMPLES = {EXIT: "75 or exit", HTTP: "503, http:5xx or http"}
