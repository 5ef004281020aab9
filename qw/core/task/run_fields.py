"""The keys beside ``run:`` of steps, schedules and commands, and the types of their values."""

from __future__ import annotations

import re

from qw.core.errors import Fault
from qw.core.fields import ANYTHING, Field, Type, checked, choice, text_of
from qw.core.task.command import SHELLS, Shell, StdoutFormat
from qw.core.task.payload import Json


def _shell(value: Json, path: str, faults: list[Fault]) -> Shell | None:
    if isinstance(value, str) and value in SHELLS:
        return value
    if isinstance(value, list) and value and value[0] and not any("${{" in str(word) for word in value):
        words = tuple(word for word in value if isinstance(word, str))
        if len(words) == len(value):
            return words
    shown = str(value)[:60]
    hint = f"; did you mean [{shown}]?" if isinstance(value, str) else ""
    message = f"{shown!r} is not sh, bash, or a list of a program and its arguments{hint}"
    faults.append(Fault(path=path, message=message))
    return None


SHELL = Type(_shell, {"anyOf": [{"enum": [*SHELLS]}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]})

VARIABLE = re.compile(r"(?!QW_|LD_)[A-Za-z_][A-Za-z0-9_]{0,127}")
"""The name of an environment variable that a command may set."""

NOT_A_VARIABLE = "cannot be set: letters, digits and _, and not QW_… or LD_…"

RUN_FIELDS = {
    "shell": Field(
        SHELL, "Interpreter of run: a shell, or a program with arguments (a list) that is given the script file"
    ),
    "cwd": Field(
        checked(
            {"type": "string", "minLength": 1},
            lambda value: isinstance(value, str) and bool(value),
            lambda value: "must be the path of a directory",
        ),
        "Working directory of run; $QW_ARTIFACTS: the run's folder",
    ),
    "stdin": Field(ANYTHING, "Standard input of run: text, or JSON; may be an expression"),
    "user": Field(
        text_of(re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"), "is not the name of a user; it cannot be an expression"),
        "System user of run; only a daemon that runs as root can use another user than its own",
    ),
    "output": Field(choice(StdoutFormat), "Form of stdout in the result"),
}
