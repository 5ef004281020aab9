"""The directory of the private PostgreSQL for tests. Every run of pytest imports this module, so it imports little."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - a clone, 400 files, takes a fifth of the time there
_ROOM = 2 * 1024**3  # bytes; containers often have no more than 64 MB of it


def new_home() -> Path:
    """A name for the directory of a private PostgreSQL that does not exist yet; in memory, if there is room."""
    name = f"qw-testing-{os.getpid()}-{os.urandom(4).hex()}"
    return (_MEMORY if _has_room(_MEMORY) else Path(tempfile.gettempdir())) / name


def _has_room(directory: Path) -> bool:
    try:
        return shutil.disk_usage(directory).free >= _ROOM and os.access(directory, os.W_OK)
    except OSError:
        return False
