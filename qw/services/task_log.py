"""Writes task log lines in batches, in their order."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from qw.core.errors import QwError
from qw.store import tasks
from qw.store.connection import ReconnectingConnection
from qw.store.errors import blames_data

log = logging.getLogger(__name__)

BATCH = 500
MOST = 10_000  # lines in memory; then whoever logs has to wait


class TaskLog:
    """``add`` returns at once while there is room; ``flushed`` when all that was added is stored."""

    name = "task log"

    def __init__(self, link: ReconnectingConnection) -> None:
        self._link = link
        self._lines: list[tuple[UUID, int, str, str]] = []
        self._room = asyncio.Condition()
        self._added = 0
        self._stored = 0
        self.bell = asyncio.Event()

    def patience(self) -> float:
        return 3600.0

    async def add(self, line: tuple[UUID, int, str, str]) -> None:
        if len(self._lines) >= MOST:
            async with self._room:
                await self._room.wait_for(lambda: len(self._lines) < MOST)
        self._lines.append(line)
        self._added += 1
        self.bell.set()

    async def flushed(self) -> None:
        mark = self._added
        async with self._room:
            await self._room.wait_for(lambda: self._stored >= mark)

    async def step(self) -> bool:
        batch = self._lines[:BATCH]
        if batch:
            await self._write(batch)
            del self._lines[: len(batch)]
            self._stored += len(batch)
            async with self._room:
                self._room.notify_all()
        return bool(self._lines)

    async def _write(self, batch: list[tuple[UUID, int, str, str]]) -> None:
        try:
            async with self._link.use() as conn:
                await tasks.write_logs(conn, batch)
        except QwError as error:
            if not blames_data(error):
                raise
            log.error("log lines refused", extra={"lines": len(batch), "error": str(error)})
