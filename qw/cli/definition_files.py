"""Selects the definition files that a daemon loads at start."""

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
    """Load *paths*, or without any ``workflows.yaml`` in the current directory if it exists. Raise Invalid,
    NotFound.
    """
    from qw.definitions import load

    return [load(path) for path in paths or ([HERE] if _is_there(HERE) else [])]


def _is_there(file: Path) -> bool:
    """Whether the file exists. False also if the current directory was removed or may not be read."""
    try:
        return file.is_file()
    except OSError:
        return False


def shipped() -> Definitions:
    """Load the definitions that come with qw."""
    from qw.definitions import load

    packed = Path(str(files("qw") / "data" / "workflows.yaml"))
    return load(packed if packed.is_file() else Path(__file__).parents[2] / "workflows.yaml")


async def of_start(url: str) -> list[Definitions]:
    """Load the definitions that come with qw, except workflows whose names the database has: those may be the
    user's own.
    """
    from qw.client import Client

    async with Client(url, size=1, name="qw cli") as client:
        known = {workflow.name for workflow in await client.workflows.all()}
    ours = shipped()
    return [replace(ours, workflows={name: document for name, document in ours.workflows.items() if name not in known})]
