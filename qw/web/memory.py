"""Returns heap memory to the system after many slow clients have disconnected; the C library would keep it."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from functools import cache

TRIM_SECONDS = 2.0  # after the first disconnect, so that one trim serves many


class Trimmer:
    """Trims the heap once, some time after a request. Does nothing if the C library has no ``malloc_trim``."""

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
