"""Programs declared under ``commands:``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.expression.evaluation import kind
from qw.core.parsing import hint, mapping, refuse_unknown, string
from qw.core.task.command import Background, CommandSpec, Exit, parse_shell, parse_user
from qw.core.task.payload import Json, JsonObject

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VARIABLE = re.compile(r"(?!QW_|LD_)[A-Za-z_][A-Za-z0-9_]{0,127}")
_KEYS = ("argv", "run", "shell", "cwd", "user", "env", "timeout", "exit_codes", "description", "background")


def parse_command(name: str, document: Json, where: Callable[[str], str]) -> CommandSpec:
    """The command in *document*. Raise Invalid with every fault."""
    faults: list[Fault] = []
    command = _command(name, document, faults)
    if faults or command is None:
        raise Invalid(*(Fault(path=where(fault.path), message=fault.message) for fault in faults))
    return command


def _command(name: str, document: Json, faults: list[Fault]) -> CommandSpec | None:
    if not _NAME.fullmatch(name):
        message = f"{name[:60]!r} is not a name of a command: letters, digits and _ . - (at most 128)"
        faults.append(Fault(path="", message=message))
    if not isinstance(document, dict):
        faults.append(Fault(path="", message=f"a command must be an object with argv: or run:, not {kind(document)}"))
        return None
    refuse_unknown(document, _KEYS, "", "a command", faults)
    return CommandSpec(
        name=name,
        run=_program(document, faults),
        shell=parse_shell(document.get("shell"), "shell", faults),
        cwd=string(document, "cwd", "", faults) or None,
        user=parse_user(document.get("user"), "user", faults),
        env=_variables(document, faults),
        timeout=_timeout(document.get("timeout"), faults),
        exit_codes=_exit_codes(document, faults),
        description=string(document, "description", "", faults),
        background=_background(document.get("background"), faults),
    )


def _program(document: JsonObject, faults: list[Fault]) -> tuple[str, ...] | str:
    if ("argv" in document) is ("run" in document):
        faults.append(Fault(path="", message="a command needs argv: (a list) or run: (shell text), one of them"))
        return ""
    if "run" in document:
        return _shell_text(document["run"], faults)
    if "shell" in document:
        faults.append(Fault(path="shell", message="is allowed with run: only"))
    argv = document["argv"]
    words = [word for word in argv if isinstance(word, str)] if isinstance(argv, list) else []
    if words != argv or not words or not words[0]:
        faults.append(Fault(path="argv", message="must be a list of strings: a program and its arguments"))
    return tuple(words)


def _shell_text(run: Json, faults: list[Fault]) -> str:
    if isinstance(run, str) and run.strip():
        return run
    faults.append(Fault(path="run", message="must be the text of a shell command"))
    return ""


def _variables(document: JsonObject, faults: list[Fault]) -> dict[str, str]:
    env = mapping(document, "env", "", faults)
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            faults.append(Fault(path=f"env.{name[:60]}", message="is not a variable that a command may be given"))
        elif not isinstance(value, str):
            faults.append(Fault(path=f"env.{name}", message=f"must be text, not {kind(value)}; put it in quotes"))
    return {name: value for name, value in env.items() if isinstance(value, str)}


def _timeout(value: Json, faults: list[Fault]) -> timedelta | None:
    if value is None:
        return None
    try:
        timeout = parse_duration(value)
    except Invalid as error:
        faults += [Fault(path="timeout", message=fault.message) for fault in error.faults]
        return None
    if not timeout:
        faults.append(Fault(path="timeout", message="must be greater than 0"))
    return timeout


def _background(value: Json, faults: list[Fault]) -> Background:
    if value is None or value in list(Background):
        return Background(str(value)) if value else Background.END
    faults.append(Fault(path="background", message=f"{str(value)[:60]!r} is not end or keep"))
    return Background.END


def _exit_codes(document: JsonObject, faults: list[Fault]) -> dict[int, Exit]:
    codes: dict[int, Exit] = {}
    for code, meaning in mapping(document, "exit_codes", "", faults).items():
        path = f"exit_codes.{code}"
        if not code.isascii() or not code.isdecimal() or len(code) > 3 or int(code) > 255:
            faults.append(Fault(path=path, message=f"{code[:20]!r} is not an exit code from 0 to 255"))
        elif meaning not in list(Exit):
            message = f"{str(meaning)[:60]!r} is not a meaning; there are {', '.join(Exit)}"
            faults.append(Fault(path=path, message=f"{message}{hint(str(meaning), Exit, faults)}"))
        else:
            codes[int(code)] = Exit(str(meaning))
    return codes
