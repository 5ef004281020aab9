"""Memory that many slow clients took goes back to the system when they are gone; the C library would keep it."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from functools import cache

TRIM_SECONDS = 2.0  # after the first of those who leave together


class Trimmer:
    """Trims the heap once, some time after it was asked to. Does nothing where the C library has no such function."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._trim(), name="trim memory")

    async def _trim(self) -> None:
        await asyncio.sleep(TRIM_SECONDS)
        await asyncio.to_thread(_malloc_trim(), 0)


@cache
def _malloc_trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda pad: None
    return trim
