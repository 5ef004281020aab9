"""Command lines that cannot be meant: what is wrong with them, in one line, and where the right words are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

_BOUNDS = {"greater_than_equal": ("less than", "ge"), "less_than_equal": ("more than", "le")}

# Verbs as other programs call them, and what they may be called here: the first that the noun has.
_VERBS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("rm", "delete", "del", "drop"), ("remove", "cancel")),
    **dict.fromkeys(("kill", "stop", "abort"), ("cancel", "pause", "drain")),
    **dict.fromkeys(("ls", "all", "status"), ("list", "runs", "show")),
    **dict.fromkeys(("get", "info", "inspect", "describe", "view", "cat"), ("show",)),
    **dict.fromkeys(("create", "new", "set"), ("add", "limit", "grant")),
    **dict.fromkeys(("run", "fire"), ("trigger", "start")),
    **dict.fromkeys(("disable", "suspend", "hold"), ("pause",)),
    **dict.fromkeys(("enable", "unpause", "continue", "start"), ("resume",)),
    **dict.fromkeys(("restart", "rerun", "replay"), ("retry",)),
    **dict.fromkeys(("update", "change", "modify"), ("edit", "add", "limit")),
    **dict.fromkeys(("clear", "empty", "clean", "flush"), ("purge", "remove")),
    **dict.fromkeys(("log", "tail"), ("logs",)),
    **dict.fromkeys(("draw", "picture", "dot"), ("graph",)),
    "remove": ("cancel",),
    "check": ("validate",),
    "init": ("migrate",),
    "upgrade": ("migrate",),
}


def verb_meant(word: str, verbs: Collection[str]) -> str | None:
    """Which of the *verbs* of a noun other programs call *word*."""
    return next((verb for verb in _VERBS.get(word, ()) if verb in verbs), None)


def message_of(error: Any) -> str:
    """What is wrong, from one of typer's usage errors."""
    fault = _of_value(error)
    if fault is not None:
        place = max(error.param.opts, key=len)
        return f"{place if place.startswith('-') else error.param.metavar or place.upper()}: {fault}"
    message = str(error.format_message()).replace("Value error, ", "")
    message = message.replace(":\n\t", ": ").replace(",\n\t", ", ")  # a list of choices, one per line
    return message.rstrip(".")


def _of_value(error: Any) -> str | None:
    """The fault of a value that pydantic refused."""
    faults = getattr(error.__cause__, "errors", None)
    if faults is None:
        return None
    fault = faults(include_url=False)[0]
    value = str(fault["input"])[:60]
    if fault["type"] in ("int_parsing", "int_type", "int_from_float", "int_parsing_size"):
        return f"{value!r} is not a valid integer"
    if fault["type"] in _BOUNDS:
        words, name = _BOUNDS[fault["type"]]
        return f"{value} is {words} {fault['ctx'][name]}"
    return None
