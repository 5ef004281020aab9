"""Polls until a state is final, up to a deadline."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from qw.core.errors import TimedOut

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between two queries


class Poll:
    """Pauses between queries, growing each time. Raise TimedOut once *timeout* has passed; None: no limit."""

    def __init__(self, timeout: timedelta | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        self._pause = FIRST_PAUSE

    async def pause(self, state: str) -> None:
        """Pause before the next query. *state*: the text for the error that says what is not final."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimedOut(f"timed out waiting: {state}")
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 1.3, LONGEST_PAUSE)
