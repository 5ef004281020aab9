"""All commands of ``qw``, from what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from qw.cli.program import app


def all_commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words."""
    command = command or get_command(app)
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from all_commands(command.get_command(None, name), (*path, name))


def example(command: Any) -> str:
    """The shell command line in the help of *command*, empty where there is none."""
    found = re.fullmatch(r"Example: (.+)", command.epilog or "")
    return found[1] if found else ""
