"""``qw completion``"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import say
from qw.core.errors import Invalid


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class Wanted(StrEnum):
    """A shell to print the script for, or ``install``."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    INSTALL = "install"


app = verbs()


@app.command(cls=Verb, epilog="Example: qw completion bash > /dev/null")
def completion(
    wanted: Annotated[Wanted, typer.Argument(metavar="bash|zsh|fish|install", help="Shell, or install.")],
    shell: Annotated[
        Shell | None, typer.Argument(metavar="[SHELL]", help="With install: the shell. Default: yours.")
    ] = None,
) -> None:
    """Print a shell completion script, or install it for your shell.

    It completes commands, options, and what is in the database: ids with what their tasks do, queues, types, workflows.
    """
    if wanted is not Wanted.INSTALL:
        print(_script(Shell(wanted.value)))
        return
    chosen = shell or _own_shell()
    file = _place(chosen)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_script(chosen) + "\n")
    say(f"installed {file}; it works in new shells{_HINTS.get(chosen, '')}")


_HINTS = {Shell.ZSH: "; .zshrc needs, before compinit: fpath=(~/.zfunc $fpath)"}


def _script(shell: Shell) -> str:
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    return str(get_completion_script(prog_name="qw", complete_var="_QW_COMPLETE", shell=shell.value))


def _own_shell() -> Shell:
    name = Path(os.environ.get("SHELL", "")).name
    try:
        return Shell(name)
    except ValueError:
        known = "name one: bash, zsh or fish"
        raise Invalid(f"unknown shell ({name or 'SHELL is not set'}); {known}") from None


def _place(shell: Shell) -> Path:
    """Return the path from which the shell loads the completion of ``qw`` (zsh: the directory that users commonly
    configure).
    """
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return {
        Shell.BASH: data / "bash-completion" / "completions" / "qw",
        Shell.ZSH: Path.home() / ".zfunc" / "_qw",
        Shell.FISH: config / "fish" / "completions" / "qw.fish",
    }[shell]
