"""``qw help``"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from qw.cli.command import Verb, verbs
from qw.cli.suggestions import command_of
from qw.core.errors import NotFound, guess

app = verbs()


@app.command(cls=Verb, epilog="Example: qw help task list")
def help(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="A command, or all for a list of all commands.")
    ] = None,
) -> None:
    """Show the help of a command, or of all."""
    root: Any = ctx.find_root()
    if words == ["all"]:
        _print_all(root.command)
        return
    command: Any = root.command
    path, place = "qw", root
    for word in words or []:
        known = command.list_commands(root) if hasattr(command, "list_commands") else []
        if word not in known:
            elsewhere = command_of(word) if path == "qw" else None
            hint = f"; did you mean: qw {elsewhere}" if elsewhere else guess(word, known) or "; see: qw help all"
            raise NotFound(f"there is no command '{path} {word}'{hint}")
        command, path = command.get_command(root, word), f"{path} {word}"
        place = type(root)(command, info_name=word, parent=place)
    print(command.get_help(place))


def _print_all(root: Any) -> None:
    every = [(path, _first_sentence(command.help or "")) for path, command in every_command(root)]
    column = max(len(path) for path, _ in every) + len("qw ") + 2
    width = max(shutil.get_terminal_size().columns, column + 20)
    for path, text in every:
        lines = textwrap.wrap(text, width - column)
        print(f"qw {path}".ljust(column) + f"\n{'':<{column}}".join(lines))


def _first_sentence(text: str) -> str:
    line = text.partition("\n")[0]
    return re.split(r"(?<=[.:]) ", line)[0].rstrip(".:")


def every_command(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command that can be run, with its words after ``qw``."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from every_command(command.get_command(None, name), f"{path} {name}".lstrip())
