"""Hooks of `make docs`. They generate the page of the command line from each command's --help, turn links to files of
the repository that are not part of the site into plain text, and add pages to the menu that it does not list.
"""

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
    """Add pages that the menu does not list: below their manual, or to the guides."""
    entries = {title: entry for one in config["nav"] for title, entry in one.items()}
    workflows = next(entry["Workflows"] for entry in entries["Manuals"] if "Workflows" in entry)
    named = set(_pages(config["nav"]))
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = path.relative_to(ROOT / "docs").as_posix()
        if page not in named and not page.startswith("decisions/"):
            (workflows if page.startswith("workflows/") else entries["Guides"]).append(page)
    return config


def _pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for one in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from _pages(one)


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
