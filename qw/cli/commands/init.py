"""``qw init``"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from qw.cli.command import Verb, verbs
from qw.core.errors import Conflict

app = verbs()


@app.command(cls=Verb, epilog="Example: qw init invoices")
def init(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to put the files. Default: the current directory.")
    ] = None,
) -> None:
    """Start a project: write qw.toml, tasks.py and workflows.yaml, which run as they are.

    Nothing is written if one of the files exists.
    """
    from qw.cli.project_files import PROJECT
    from qw.cli.this_program import this_program

    folder = directory or Path()
    if there := [str(folder / name) for name in PROJECT if (folder / name).exists()]:
        raise Conflict(f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'}; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in PROJECT.items():
        _write(folder / name, text)
    program = this_program()
    print(f"wrote {', '.join(str(folder / name) for name in PROJECT)}")
    print("Next:")
    if directory is not None:
        print(f"  cd {directory}")
    print(f"  {program} daemon --app tasks:app     # in a terminal of its own")
    print(f"""  {program} enqueue greet --payload '{{"name": "Ada"}}' --wait""")
    print(f"""  {program} workflow start hello --input '{{"name": "Ada"}}' --wait""")


def _write(file: Path, text: str) -> None:
    """Write *file* completely or not at all. Raise OSError that names the file."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise OSError(error.errno, error.strerror, str(file)) from None
