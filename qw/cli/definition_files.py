"""Which files of workflows and commands a start reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qw.definitions import Definitions

HERE = Path("workflows.yaml")


def of_files(paths: Sequence[Path]) -> list[Definitions]:
    """What *paths* define; none given: what ``workflows.yaml`` here does, if there is one. Raise Invalid, NotFound."""
    from qw.definitions import load

    return [load(path) for path in paths or ([HERE] if _is_there(HERE) else [])]


def _is_there(file: Path) -> bool:
    """No also where the current directory is gone, or closed to us."""
    try:
        return file.is_file()
    except OSError:
        return False


def shipped() -> Definitions:
    """What comes with qw."""
    from qw.definitions import load

    packed = Path(str(files("qw") / "data" / "workflows.yaml"))
    return load(packed if packed.is_file() else Path(__file__).parents[2] / "workflows.yaml")


async def of_start(url: str) -> list[Definitions]:
    """What comes with qw, without the workflows that the database has under the same names: those may be the user's."""
    from qw.client import Client

    async with Client(url, size=1, name="qw cli") as client:
        known = {workflow.name for workflow in await client.workflows.all()}
    ours = shipped()
    return [replace(ours, workflows={name: document for name, document in ours.workflows.items() if name not in known})]
