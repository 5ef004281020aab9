"""The files of the dashboard, and which modules a page needs. They are read once, at the first request."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from posixpath import dirname, join, normpath

LEAST_GZIPPED = 1024  # bytes
MEDIA: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}

_IMPORT = re.compile(r'^(?:import|export)\b[^;]*?from ?"(\.[^"]+)"', re.MULTILINE)


class Asset:
    """One file."""

    def __init__(self, content: bytes, media: str) -> None:
        self.content = content
        self.media = media

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:20]

    @cached_property
    def gzipped(self) -> bytes | None:
        """The compressed content; None if that is not smaller."""
        if len(self.content) < LEAST_GZIPPED:
            return None
        smaller = gzip.compress(self.content, 6, mtime=0)
        return smaller if len(smaller) < len(self.content) else None

    @cached_property
    def imports(self) -> list[str]:
        """The relative paths of the modules that this one imports."""
        return _IMPORT.findall(self.content.decode())


class Assets:
    """The files below *folder*, by their path relative to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def files(self) -> Mapping[str, Asset]:
        paths = sorted(path for path in self._folder.rglob("*") if path.suffix in MEDIA)
        return {
            path.relative_to(self._folder).as_posix(): Asset(path.read_bytes(), MEDIA[path.suffix]) for path in paths
        }

    @cached_property
    def version(self) -> str:
        """A digest of all files."""
        return hashlib.sha256("".join(file.digest for file in self.files.values()).encode()).hexdigest()[:12]

    def modules(self, *entries: str) -> list[str]:
        """Return each of *entries* that exists, followed by all modules that it imports, directly or not.

        Dynamic imports do not count.
        """
        reached: dict[str, None] = {}

        def reach(name: str) -> None:
            if name in self.files and name not in reached:
                reached[name] = None
                for path in self.files[name].imports:
                    reach(normpath(join(dirname(name), path)))

        for entry in entries:
            reach(entry)
        return list(reached)
