"""The protocol of a service, and the event (bell) that wakes it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Service(Protocol):
    name: str

    async def step(self) -> bool:
        """Do a bounded amount of work. True: call again at once."""
        ...

    def max_wait(self) -> float:
        """Seconds until the next step, unless the service's bell is set before."""
        ...

    @property
    def bell(self) -> asyncio.Event:
        """Set to wake the service."""
        ...
