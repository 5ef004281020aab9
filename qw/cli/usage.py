"""Messages for command lines that cannot be parsed: one line with the fault and a suggestion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qw.cli.suggestions import arguments_meant, missing_argument, option_meant

_BOUNDS = {"greater_than_equal": ("less than", "ge"), "less_than_equal": ("more than", "le")}


def message_of(error: Any, words: Sequence[str]) -> str:
    """Return the message for the command line *words* and one of typer's usage errors, with a suggestion."""
    context = error.ctx
    path = context.command_path if context is not None else "qw"
    hint = None if context is None else _hint(error, path, context.command, words)
    return f"{_fault(error).rstrip('.')}; {hint or f'see: {path} --help'}"


def _hint(error: Any, path: str, command: Any, words: Sequence[str]) -> str | None:
    if hasattr(error, "possibilities"):
        known = {name for param in command.params for name in param.opts}
        return option_meant(path, error.option_name, known, words) or _after_command(error, path, words)
    if extra := re.search(r"extra argument\S* \((.*)\)$", error.message, re.DOTALL):
        taken = list(words[len(path.split()) - 1 :])
        return arguments_meant(path, list(words), _last(taken, extra[1]))
    if getattr(error, "param", None) is not None and error.param.param_type_name == "argument":
        return missing_argument(path, error.param.metavar or error.param.name.upper())
    return None


def _last(words: list[str], text: str) -> list[str]:
    """Return the last of *words*, which joined are *text*."""
    for start in range(len(words)):
        if " ".join(words[start:]) == text:
            return words[start:]
    return text.split(" ")


def _after_command(error: Any, path: str, words: Sequence[str]) -> str | None:
    """Return advice if the unknown option stands before its command instead of after it."""
    option = error.option_name
    if path != "qw" or option not in words:
        return None
    name = next(iter(words[words.index(option) + 1 :]), "")
    is_command = name in error.ctx.command.list_commands(error.ctx)
    return f"put options of a command after it: qw {name} {option}" if is_command else None


def _fault(error: Any) -> str:
    fault = _of_value(error)
    if fault is not None:
        place = max(error.param.opts, key=len)
        return f"{place if place.startswith('-') else error.param.metavar or place.upper()}: {fault}"
    if hasattr(error, "possibilities"):
        return str(error.message)
    message = str(error.format_message()).replace("Value error, ", "")
    message = message.replace(":\n\t", ": ").replace(",\n\t", ", ")  # a list of choices, one per line
    return message.rstrip(".")


def _of_value(error: Any) -> str | None:
    """Return the fault of a value that pydantic refused."""
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
