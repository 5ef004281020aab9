"""How many tasks to claim in advance: the measured number of completions in 200 ms.

So no-ops are claimed in batches of hundreds, while a task that takes a minute is not claimed before a slot is free.
"""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 0.2
MOST = 3500


class Prefetch:
    """The rate of completions. The time is passed as an argument."""

    def __init__(self) -> None:
        self._total = 0
        self._marks: deque[tuple[float, int]] = deque()

    def completed(self, count: int = 1) -> None:
        self._total += count

    def ahead(self, now: float) -> int:
        """Return how many tasks may wait here for a slot."""
        self._marks.append((now, self._total))
        while len(self._marks) > 1 and self._marks[1][0] <= now - WINDOW_SECONDS:
            self._marks.popleft()
        since, total = self._marks[0]
        span = max(now - since, WINDOW_SECONDS)
        return min(MOST, int((self._total - total) * WINDOW_SECONDS / span))
