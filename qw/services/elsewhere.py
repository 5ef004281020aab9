"""Types that this worker does not serve and others do: met in a lane they stay there, for those to take."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from qw.store import workers
from qw.store.connection import Link

LOOK_SECONDS = 5.0  # between two looks at whether those others still live


class Elsewhere:
    """``types``: those that were met and have a living worker somewhere."""

    def __init__(self, link: Link, worker: Callable[[], int]) -> None:
        self._link = link
        self._worker = worker
        self._looked_at = 0.0
        self.types: frozenset[str] = frozenset()

    async def meet(self, types: Collection[str]) -> None:
        """These were claimed here, where nothing serves them."""
        async with self._link.use() as conn:
            self.types |= await workers.served_elsewhere(conn, self._worker(), types)
        self._looked_at = time.monotonic()

    async def look_again(self) -> None:
        """Forget, now and then, those whose workers are gone."""
        if self.types and time.monotonic() - self._looked_at > LOOK_SECONDS:
            met, self.types = self.types, frozenset()
            await self.meet(met)
