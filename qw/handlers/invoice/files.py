"""The files of the chain: written atomically, and never read or deleted outside their directory."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qw.core.task.handler_api import Reject


def write_file(path: Path, content: bytes) -> None:
    """Write *content* to *path* atomically: readers never see a partial file, even after a crash. Safe to repeat.

    A symbolic link at *path* is replaced, not followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_file(path: Path, *, limit: int) -> bytes:
    """Return the content of *path*. Raise Reject for more than *limit* bytes, OSError for a symbolic link."""
    with open(path, "rb", opener=_open_itself) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Reject(f"{path.name} is not a regular file")
        if status.st_size > limit:
            raise Reject(f"{path.name} has {status.st_size:,} bytes; at most {limit:,} are sent")
        return file.read(limit)


def _open_itself(path: str, flags: int) -> int:
    """Open without following a symbolic link or blocking on a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def inside(directory: Path, place: str) -> Path:
    """Return the path for *place*, a path or ``file:`` URL. Raise Reject if it is not in *directory*."""
    text = unquote(urlsplit(place).path) if place.startswith("file:") else place
    folder = Path(os.path.realpath(directory))
    named = folder / text
    path = Path(os.path.realpath(named.parent)) / named.name
    if "\0" in text or path.name in ("", "..") or not path.is_relative_to(folder) or path == folder:
        raise Reject(f"{place[:200]} is not a file in {directory}")
    return path
