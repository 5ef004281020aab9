"""HTTP clients that connect only where the policy in `egress` allows.

All HTTP clients of qw are created here. They use no proxy from the environment, keep no cookies and do not follow
redirects by themselves. httpx is imported when the first client is created.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from qw.handlers.egress import Egress, origin

if TYPE_CHECKING:
    import httpx


def client(egress: Egress) -> httpx.AsyncClient:
    """Return a client that connects only where *egress* allows.

    It follows no redirects by itself, keeps no cookies and uses no proxies. Reads and writes have no timeout: set one
    around the call.
    """
    from qw.handlers.transport import checked_client

    return checked_client(egress)


class Clients:
    """One checked client for each event loop and exempt origin, created on first use."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._clients: dict[tuple[asyncio.AbstractEventLoop, str | None], httpx.AsyncClient] = {}

    def current(self, exempt: str | None = None) -> httpx.AsyncClient:
        """Return the running loop's client. It may also connect to the host and port of the URL *exempt*."""
        key = (asyncio.get_running_loop(), exempt and origin(exempt))
        if key not in self._clients:
            self._clients[key] = client(self._egress.also(exempt) if exempt else self._egress)
        return self._clients[key]

    async def close(self) -> None:
        """Close the clients of the running loop. Safe to repeat."""
        loop = asyncio.get_running_loop()
        for key in [key for key in self._clients if key[0] is loop]:
            await self._clients.pop(key).aclose()
