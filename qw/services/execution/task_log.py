"""Writes task log lines in batches, in order. A line that the database rejects does not affect the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from qw.services.execution.context import LogLine
from qw.store import tasks
from qw.store.connection import ReconnectingConnection
from qw.store.errors import blames_data

log = logging.getLogger(__name__)

BATCH = 500
MOST = 10_000  # maximum lines in memory; then callers wait


class TaskLog:
    """``add`` returns immediately while there is room; ``flushed`` returns once all added lines are stored."""

    name = "task log"

    def __init__(self, link: ReconnectingConnection) -> None:
        self._link = link
        self._lines: list[LogLine] = []
        self._room = asyncio.Condition()
        self._added = 0
        self._stored = 0
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return 3600.0

    async def add(self, lines: Sequence[LogLine]) -> None:
        """Add lines, in parts if they do not all fit at once."""
        taken = 0
        while taken < len(lines):
            if len(self._lines) >= MOST:
                async with self._room:
                    await self._room.wait_for(lambda: len(self._lines) < MOST)
            part = lines[taken : taken + MOST - len(self._lines)]
            self._lines += part
            self._added += len(part)
            self.bell.set()
            taken += len(part)

    def offer(self, lines: Sequence[LogLine]) -> None:
        """Add lines if there is room, and drop them otherwise."""
        if len(self._lines) + len(lines) <= MOST:
            self._lines += lines
            self._added += len(lines)
            self.bell.set()

    async def flushed(self, *, within: float | None = None) -> bool:
        """Wait until all lines added so far are stored or rejected, at most *within* seconds. Return whether they
        are.
        """
        mark = self._added
        try:
            async with asyncio.timeout(within), self._room:
                await self._room.wait_for(lambda: self._stored >= mark)
        except TimeoutError:
            return False
        return True

    async def step(self) -> bool:
        batch = self._lines[:BATCH]
        if batch:
            await self._write(batch)
            del self._lines[: len(batch)]
            self._stored += len(batch)
            async with self._room:
                self._room.notify_all()
        return bool(self._lines)

    async def _write(self, batch: Sequence[LogLine]) -> None:
        """Store the lines. A rejected batch is bisected; the faulty line is dropped."""
        try:
            async with self._link.use() as conn:
                await tasks.write_logs(conn, batch)
        except Exception as error:
            if not blames_data(error):
                raise
            if len(batch) > 1:
                half = len(batch) // 2
                await self._write(batch[:half])
                await self._write(batch[half:])
            else:
                fields = {"task": str(batch[0][0]), "error": f"{type(error).__name__}: {error}"}
                log.error("task log line rejected by the database", extra=fields)
