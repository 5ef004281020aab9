"""``qw completion``"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from qw.cli.command import verbs


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


app = verbs()


@app.command(epilog="Example: qw completion bash > /dev/null")
def completion(shell: Annotated[Shell, typer.Argument(help="Shell.")]) -> None:
    """Print a shell completion script. Use it with: eval "$(qw completion bash)"."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="qw", complete_var="_QW_COMPLETE", shell=shell.value))
