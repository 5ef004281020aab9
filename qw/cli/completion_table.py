"""Builds the table of commands for `completion` from the typer commands."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from typer.main import get_command

from qw.cli.completion import CHOICE, FLAG, FREE, CommandCompletion
from qw.cli.options import completions
from qw.cli.program import app


def commands() -> dict[str, CommandCompletion]:
    """Return every command and group of commands, by the words that name it."""
    return dict(_below(get_command(app), ""))


def _below(command: Any, path: str) -> Iterator[tuple[str, CommandCompletion]]:
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    verbs = {name: verb for name in names if (verb := command.get_command(None, name)) and not verb.hidden}
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    yield (
        path,
        CommandCompletion(
            words={name: (verb.help or "").partition("\n")[0] for name, verb in verbs.items()},
            options={name: (_kind(param), _about(param)) for param in _options(command) for name in _names(param)},
            arguments=[_kind(param) for param in arguments],
            repeats=bool(arguments) and arguments[-1].nargs == -1,
            stops=not command.context_settings.get("allow_interspersed_args", True),
        ),
    )
    for name, verb in verbs.items():
        yield from _below(verb, f"{path} {name}".strip())


def _options(command: Any) -> list[Any]:
    return [param for param in command.params if param.param_type_name == "option" and not param.hidden]


def _names(param: Any) -> list[str]:
    return sorted([*param.opts, *param.secondary_opts], key=len, reverse=True)


def _about(param: Any) -> str:
    return (param.help or "").partition("\n")[0]


def _kind(param: Any) -> str:
    if getattr(param, "is_flag", False):
        return FLAG
    if name := _completer(getattr(param, "_custom_shell_complete", None)):
        return name
    kind = param.type_descriptor.annotation
    return CHOICE + ",".join(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else FREE


def _completer(function: Any) -> str:
    """Return the name of the completer that typer wrapped in *function*; empty if there is none."""
    if function is None or not callable(function):
        return ""
    if getattr(function, "__module__", "") == completions.__name__:
        return str(function.__name__)
    cells = getattr(function, "__closure__", None) or ()
    return next((name for cell in cells if (name := _completer(cell.cell_contents))), "")
