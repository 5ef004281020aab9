"""HTTP clients that connect only where the policy in `egress` allows.

Every HTTP client of qw is made here: none takes a proxy from the environment, keeps cookies or follows redirects by
itself. httpx is imported when the first is made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from qw.handlers.egress import Egress, origin

if TYPE_CHECKING:
    import httpx


def client(egress: Egress) -> httpx.AsyncClient:
    """A client that connects only where *egress* allows.

    It follows no redirects by itself, keeps no cookies and knows no proxies. Reads and writes wait without limit: set
    a deadline around the call.
    """
    from qw.handlers.transport import checked_client

    return checked_client(egress)


class Clients:
    """One checked client for each event loop and exemption, made when it is first wanted."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._clients: dict[tuple[asyncio.AbstractEventLoop, str | None], httpx.AsyncClient] = {}

    def current(self, exempt: str | None = None) -> httpx.AsyncClient:
        """The client of the running loop; with *exempt* one that may also go to host and port of this URL."""
        key = (asyncio.get_running_loop(), exempt and origin(exempt))
        if key not in self._clients:
            self._clients[key] = client(self._egress.also(exempt) if exempt else self._egress)
        return self._clients[key]

    async def close(self) -> None:
        """Close the clients of the running loop. Safe to repeat."""
        loop = asyncio.get_running_loop()
        for key in [key for key in self._clients if key[0] is loop]:
            await self._clients.pop(key).aclose()
