"""A cache that shares one result among concurrent requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """Caches the result of *make* for *seconds*. Concurrent callers share one call, and its error."""

    def __init__(self, make: Callable[[], Awaitable[T]], *, seconds: float = 1.0) -> None:
        self._make = make
        self._seconds = seconds
        self._making: asyncio.Task[T] | None = None
        self._made_at = float("-inf")

    async def get(self) -> T:
        if self._making is None or (self._making.done() and time.monotonic() - self._made_at > self._seconds):
            self._making = asyncio.create_task(self._run())
            self._making.add_done_callback(_retrieve_error)
        return await asyncio.shield(self._making)  # other callers may wait for the same task

    async def _run(self) -> T:
        try:
            return await self._make()
        finally:
            self._made_at = time.monotonic()


def _retrieve_error(task: asyncio.Task[T]) -> None:
    """Retrieve the exception, so that asyncio does not log it if no caller is waiting any more."""
    if not task.cancelled():
        task.exception()
