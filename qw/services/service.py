"""The contract of a service, and the bell that wakes it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Service(Protocol):
    name: str

    async def step(self) -> bool:
        """One bounded pass. True: there may be more to do at once."""
        ...

    def max_wait(self) -> float:
        """Seconds until the next pass, unless the service's bell rings before."""
        ...

    @property
    def bell(self) -> asyncio.Event:
        """Set by whoever knows that there is something to do."""
        ...
