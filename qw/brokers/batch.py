"""The confirmations of messages that were published together. They share one future, because futures are expensive."""

from __future__ import annotations

import asyncio
from uuid import UUID


class PublishBatch:
    """``settled`` is done when the broker has spoken of each of *count* messages; ``error``: what it said of one."""

    def __init__(self, count: int, settled: asyncio.Future[None]) -> None:
        self._open = count
        self.settled = settled
        self.confirmed: set[UUID] = set()
        self.error: Exception | None = None

    def confirm(self, id: UUID) -> None:
        self.confirmed.add(id)
        self._settle()

    def refuse(self, error: Exception | None = None) -> None:
        self.error = error or self.error
        self._settle()

    def _settle(self) -> None:
        self._open -= 1
        if not self._open and not self.settled.done():
            self.settled.set_result(None)
