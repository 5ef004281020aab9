"""A TCP proxy before a PostgreSQL server: passes bytes on, swallows them, or cuts the line at a chosen word."""

from __future__ import annotations

import asyncio
import contextlib
import re
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


class Proxy:
    """A context manager. ``url`` is *url* by way of the proxy, which runs in the event loop of the test."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = unquote(parse_qs(parts.query).get("host", [parts.hostname or "127.0.0.1"])[0])
        self._port = int(parse_qs(parts.query).get("port", [parts.port or 5432])[0])
        self._target = url
        self._lines: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self.cut_after: bytes | None = None  # the client says this: it reaches the server, the answer is lost
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        parts = urlsplit(self._target)
        user = f"{parts.username or parse_qs(parts.query).get('user', ['postgres'])[0]}@"
        self.url = f"postgresql://{user}127.0.0.1:{port}{parts.path}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._lines, return_exceptions=True)

    def swallow(self) -> None:
        """A black hole from now on: nothing passes, nothing is closed."""
        self._passes.clear()

    def open(self) -> None:
        """Pass again, what was held back first."""
        self._passes.set()

    def cut(self) -> None:
        """End every connection; new ones are welcome."""
        for line in self._lines:
            line.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            await self._passes.wait()
            to_server = await self._dial()
            with contextlib.closing(to_server[1]):
                await self._carry(reader, writer, *to_server)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        return await asyncio.open_connection(self._host, self._port)

    async def _carry(
        self,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        doomed = asyncio.Event()

        async def forth() -> None:
            while data := await from_client.read(65536):
                await self._passes.wait()
                if self.cut_after and re.search(self.cut_after, data):
                    doomed.set()
                to_server.write(data)
                await to_server.drain()

        async def back() -> None:
            while data := await from_server.read(65536):
                await self._passes.wait()
                if doomed.is_set():
                    self.cuts += 1
                    return
                to_client.write(data)
                await to_client.drain()

        ways = {asyncio.create_task(forth()), asyncio.create_task(back())}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
