"""Files that a step passes to later steps: copied to the run's folder after its command has succeeded."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qw.core.task.handler_api import Failure
from qw.core.task.payload import JsonObject
from qw.handlers.child import Program, started

_ERROR = 500  # maximum bytes of an error message of cp
_ITEM = re.compile(r"\[(\d+)\]$")


class ArtifactMissing(Failure):
    """The command succeeded but did not create a file that ``artifacts:`` names."""


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """The artifact folder of a run, and the step that writes to it."""

    folder: Path
    step: str

    def place(self, name: str) -> Path:
        """Return the path where the step stores *name*; for items of a foreach, ``name/INDEX``."""
        item = _ITEM.search(self.step)
        return self.folder / name / item[1] if item else self.folder / name


async def keep_artifacts(artifacts: Artifacts, paths: Mapping[str, str], program: Program) -> JsonObject:
    """Copy *paths* to the run's folder and return the new paths by name. Each copy is renamed over its predecessor.

    The files are read as the command's own user, so that a link to a file that this user may not read fails.
    """
    kept: JsonObject = {}
    for name, path in paths.items():
        place = artifacts.place(name)
        place.parent.mkdir(mode=0o755, exist_ok=True)
        await _copy(name, path, place, program)
        kept[name] = str(place)
    return kept


async def _copy(name: str, path: str, place: Path, program: Program) -> None:
    source = program.cwd / path
    if source == place:
        _check_left(name, path, place)
        return
    with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent, ignore_cleanup_errors=True) as aside:
        if program.user:
            shutil.chown(aside, program.user)
        error = await _cp(source, Path(aside, "copy"), program)
        if error is not None:
            _check_left(name, path, source)
            raise ArtifactMissing(f"artifact {name}: {error}")
        _put(Path(aside), place)


def _check_left(name: str, path: str, source: Path) -> None:
    if not source.exists():
        hint = "; it is a path, and * has no meaning in it" if "*" in path else ""
        raise ArtifactMissing(f"artifact {name}: the command left no {path!r}{hint}")


def _put(aside: Path, place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        place.rename(aside / "old")  # rename() cannot replace a directory that has files
    (aside / "copy").rename(place)


async def _cp(source: Path, to: Path, program: Program) -> str | None:
    """Copy *source*, following links, as the user of *program*. Return the error message, None on success."""
    argv = ("cp", "-R", "-L", "--", str(source), str(to))
    copying = Program(executable="/bin/cp", argv=argv, env={"LC_ALL": "C"}, cwd=program.cwd, user=program.user)
    with tempfile.TemporaryFile() as nothing:
        async with started(copying, stdin=nothing, capture=True) as (child, (_, stderr)):
            said = b""
            while piece := await stderr.read():
                said = (said + piece)[:_ERROR]
            ended = await child.ended()
    return said.decode(errors="replace").strip() or str(ended) if ended.code else None
