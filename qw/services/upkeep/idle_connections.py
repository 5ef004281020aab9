"""Closes connections that a daemon has not used for some time, so that many idle daemons need few connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from qw.store.connection import ReconnectingConnection

CHECK_SECONDS = 30.0


class IdleConnections:
    """Closes those of *links* that were not used for *seconds*. None of them may hold locks of its session."""

    name = "idle connections"

    def __init__(self, links: Sequence[ReconnectingConnection], *, seconds: float) -> None:
        self._links = links
        self._seconds = seconds
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return CHECK_SECONDS

    async def step(self) -> bool:
        for link in self._links:
            await link.close_if_unused(self._seconds)
        return False
