"""Progress of a long command, on stderr if it is a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

_EVERY = 0.1  # seconds


class ProgressLine:
    """A context manager that shows one line, overwrites it, and removes it at the end. Silent if stderr is no
    terminal.
    """

    def __init__(self, verb: str, total: int | None = None) -> None:
        self._verb = verb
        self._total = total
        self._is_seen = sys.stderr is not None and sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started + _EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("")

    def at(self, count: int) -> None:
        """Show that *count* items are done."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        of = f" of {self._total:,}" if self._total else ""
        self._write(f"{self._bar(count)}{count:,}{of} {self._verb}, {count / (now - self._started):,.0f}/s")

    def _bar(self, count: int) -> str:
        if not self._total:
            return ""
        filled = min(20, 20 * count // self._total)
        return f"[{'#' * filled}{'.' * (20 - filled)}] "

    def _write(self, text: str) -> None:
        if self._is_seen:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
