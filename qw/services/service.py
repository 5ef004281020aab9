"""The protocol of a service, and the event (bell) that wakes it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Service(Protocol):
    name: str

    async def step(self) -> bool:
        """Do a bounded amount of work. Return True if there is more to do at once."""
        ...

    def max_wait(self) -> float:
        """Return the maximum number of seconds until the next step; setting the bell ends the wait earlier."""
        ...

    @property
    def bell(self) -> asyncio.Event:
        """The event that wakes the service when it is set."""
        ...
