"""Polling until something is final, up to a deadline."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from qw.core.errors import TimedOut

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between two queries


class Poll:
    """Growing pauses between queries. Raise TimedOut once *timeout* has passed; None: no limit."""

    def __init__(self, timeout: timedelta | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        self._pause = FIRST_PAUSE

    async def pause(self, state: str) -> None:
        """*state*: what is not final, for the error."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimedOut(f"timed out waiting: {state}")
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 1.3, LONGEST_PAUSE)
