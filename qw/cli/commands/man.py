"""``qw man``"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import say
from qw.core.errors import NotFound, guess

app = verbs()


@app.command(cls=Verb, epilog="Example: qw man task list | head")
def man(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="A command. Default: all.")] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install a page for each command, so that man qw-run shows one.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", metavar="DIR", help="Where to install. Default: share/man beside this program."),
    ] = None,
) -> None:
    """Show the manual page of a command, or install all pages for man(1)."""
    root = ctx.find_root().command
    if install:
        place = directory or Path(sys.prefix) / "share" / "man"
        count, where = _install(root, place), "" if directory is None else f"-M {place} "
        say(f"{count} pages are in {place}; try: man {where}qw-run")
        return
    _show(_page(root, words or []))


def _page(root: object, words: list[str]) -> str:
    from qw.cli.manual import commands, page_of, whole_page

    if not words:
        return whole_page(root)
    known = dict(commands(root))
    path = " ".join(("qw", *words))
    if path not in known:
        raise NotFound(f"there is no command {path!r}{guess(path, known)}")
    return page_of(words, known[path])


def _show(page: str) -> None:
    """Show the page with man(1) on a terminal. Without a terminal or man(1), print it as plain text."""
    if sys.stdout.isatty() and shutil.which("man"):
        subprocess.run(["man", "-l", "-"], input=page.encode(), check=False)
    elif shutil.which("groff"):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-P-cbou"], input=page.encode(), capture_output=True, check=False
        )
        print(done.stdout.decode())
    else:
        print(page)


def _install(root: object, place: Path) -> int:
    """Write all pages below *place*. Return their number. Raise OSError."""
    from qw.cli.manual import commands, page_of, whole_page

    pages = {"qw": whole_page(root)}
    for path, command in commands(root):
        pages[path.replace(" ", "-")] = page_of(path.split()[1:], command)
    folder = place / "man1"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / f"{name}.1").write_text(text + "\n")
    return len(pages)
