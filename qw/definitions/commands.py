"""Commands: programs declared under ``commands:``."""

from __future__ import annotations

import re
from collections.abc import Callable

from qw.core.errors import Fault
from qw.core.fields import POSITIVE_DURATION, TEXT, Field, Object, Type, by_name, checked, choice
from qw.core.parsing import check_name, raise_at
from qw.core.task.command import Background, CommandSpec, Exit
from qw.core.task.payload import Json
from qw.core.task.run_fields import RUN_FIELDS, VARIABLE

_EXIT_CODE = re.compile(r"[01]?[0-9]?[0-9]|2[0-4][0-9]|25[0-5]")


def _argv(value: Json, path: str, faults: list[Fault]) -> tuple[str, ...] | None:
    words = [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
    if words and words == value and words[0]:
        return tuple(words)
    faults.append(Fault(path=path, message="must be a list of strings: a program and its arguments"))
    return None


COMMAND = Object(
    "a command",
    {
        "argv": Field(
            Type(_argv, {"type": "array", "items": TEXT.schema, "minItems": 1}),
            "A program and its arguments",
            null=False,
        ),
        "run": Field(
            checked(
                TEXT.schema,
                lambda value: isinstance(value, str) and bool(value.strip()),
                lambda value: "must be the text of a shell command",
            ),
            "Shell script, instead of argv",
            null=False,
        ),
        **{key: RUN_FIELDS[key] for key in ("shell", "cwd", "user")},
        "env": Field(
            by_name(TEXT, VARIABLE, "is not a variable that a command may be given"),
            "Environment variables",
            default={},
        ),
        "timeout": Field(POSITIVE_DURATION, "Maximum duration of an attempt"),
        "exit_codes": Field(
            by_name(choice(Exit), _EXIT_CODE, "is not an exit code from 0 to 255"),
            "Meaning of exit codes that differ from the default",
            default={},
        ),
        "description": Field(TEXT, default=""),
        "background": Field(
            choice(Background),
            "What happens to processes that are still running at the end",
            default=Background.END,
        ),
    },
    ref="command",
    must="a command must be an object with argv: or run:",
    one_of=(("argv", "run"), "a command needs argv: (a list) or run: (shell text), one of them"),
)


def parse_command(name: str, document: Json, where: Callable[[str], str]) -> CommandSpec:
    """Return the command in *document*. Raise Invalid with all faults."""
    faults: list[Fault] = []
    check_name(name, "command", faults)
    fields = COMMAND.read(document, "", faults)
    argv, run, codes = fields.pop("argv"), fields.pop("run"), fields.pop("exit_codes")
    if argv and fields["shell"]:
        faults.append(Fault(path="shell", message="is allowed only with run:"))
    raise_at(where, faults)
    return CommandSpec(name=name, run=argv or run, exit_codes={int(code): end for code, end in codes.items()}, **fields)
