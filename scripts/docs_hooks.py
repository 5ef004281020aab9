"""For `make docs`: the page of the command line is made from what each command says with --help; links to files of the
checkout, which the site does not have, become plain text. Pages that exist and are not in the menu are added to it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)")


def on_config(config: Any) -> Any:
    """Add the pages of ``docs/workflows`` below their manual."""
    manuals = next(entry["Manuals"] for entry in config["nav"] if "Manuals" in entry)
    workflows = next(entry["Workflows"] for entry in manuals if "Workflows" in entry)
    for page in sorted((ROOT / "docs" / "workflows").glob("*.md")):
        name = f"workflows/{page.name}"
        if name not in workflows:
            workflows.append(name)
    return config


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, "cli.md", content="\n".join(_command_line())))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    depth = page.file.src_uri.count("/")

    def plain(found: re.Match[str]) -> str:
        target = found[0].rpartition("(")[2]
        return found[0] if target.count("../") <= depth else found[1]

    return _OUTSIDE.sub(plain, markdown)


def _command_line() -> Iterator[str]:
    yield "# The command line\n"
    yield "Every command with what `--help` says of it. Exit codes: [errors.md](errors.md).\n"
    for words, command in _commands():
        name = " ".join(("qw", *words))
        context = command.context_class(command, info_name=name, terminal_width=100, max_content_width=100)
        yield f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"


def _commands(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    from typer.main import get_command

    from qw.cli.program import app

    command = command or get_command(app)
    if not hasattr(command, "list_commands"):
        yield words, command
        return
    for name in command.list_commands(None):
        yield from _commands(command.get_command(None, name), (*words, name))
