"""Dataset files: looked up in the data directory, then in the samples, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from qw.core.errors import guess
from qw.core.task.handler_api import Reject

FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
SAMPLES = Path(__file__).parent.with_name("samples")

_NAME = re.compile(r"\w[\w .-]*(/\w[\w .-]*)*")
_OUTPUT = "output"
_LISTED = 20


def find(dataset: str | None, directory: Path | None) -> Path:
    """Return the file of *dataset*, whose extension is optional. Raise Reject if it is missing or outside."""
    if not dataset:
        raise Reject("dataset: missing")
    if not _NAME.fullmatch(dataset):
        raise Reject(f"dataset: {dataset[:60]!r} is not the name of a file below the data directory")
    roots = [root.resolve() for root in (directory, SAMPLES) if root]
    for root in roots:
        for suffix in ("", *FORMATS):
            file = (root / f"{dataset}{suffix}").resolve()
            if file.is_file() and file.suffix in FORMATS:
                return _inside(root, file, dataset)
    known = sorted(name for root in roots for name in _known(root))
    shown = ", ".join(known[:_LISTED]) + (", …" if len(known) > _LISTED else "")
    raise Reject(f"dataset: {dataset[:60]!r} does not exist; there are {shown}{guess(dataset, known)}")


def output(name: str, directory: Path | None) -> Path:
    """Return the path for the output file *name*. Raise Reject if it is outside the data directory."""
    if directory is None:
        raise Reject("convert writes below the data directory, and QW_DATA_DIR is not set")
    if not re.fullmatch(r"\w[\w .-]{0,200}", name):
        raise Reject(f"output: {name[:60]!r} is not a file name")
    root = directory.resolve()
    folder = root / _OUTPUT
    folder.mkdir(exist_ok=True)
    return _inside(root, folder.resolve(), _OUTPUT) / name


def _inside(root: Path, path: Path, name: str) -> Path:
    if not path.is_relative_to(root):
        raise Reject(f"{name!r} leads out of the data directory")
    return path


def _known(root: Path) -> Iterator[str]:
    return (str(file.relative_to(root).with_suffix("")) for file in root.rglob("*") if file.suffix in FORMATS)
