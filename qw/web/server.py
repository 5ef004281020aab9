"""The HTTP server: uvicorn in the caller's event loop, with deadlines for slow clients and a connection limit.

If a client does not read its response, data accumulates in the kernel and then in this process, up to uvicorn's
high-water mark or the size of one response, and the producer waits. `_drop_who_does_not_read` closes such connections.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import struct
from asyncio import TimerHandle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from qw.core.errors import Misconfigured

HEADER_SECONDS = 10.0  # time limit for a request head, from its first byte or the connect
MAX_HEAD = 64 * 1024  # bytes
MAX_CONNECTIONS = 2000  # upper bound; see `connection_limit`
OTHER_FILES = 256  # reserve for files that are neither connections nor opened by handlers
BACKLOG = 256  # connections queued by the kernel; asyncio accepts up to as many at once
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
KEEP_ALIVE_SECONDS = 30
READ_SECONDS = 20.0  # within which a client must read LEAST_READ of its unread data
LEAST_READ = 64 * 1024  # bytes
GRACE_SECONDS = 5  # time for pending responses when the server stops


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the daemon."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """Closes connections whose request head is late or too long, and answers 503 beyond the connection limit."""

    _late: TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > connection_limit():
            transport.write(FULL)
            transport.close()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._late is not None:
            too_long = self._head > MAX_HEAD  # without this chunk, which may end the head and begin the body
            self._head += len(data)
            if too_long:
                self.transport.abort()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        if self._late is None:
            self._await_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._late is not None:  # else a trailer after a chunked body, which must not count as a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_is_complete()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head = 0
        self._late = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _head_is_complete(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def connection_limit() -> int:
    """Return the number of connections served at once: half of the process's file limit, after a reserve for other
    files.

    Clients thus cannot exhaust the descriptors that tasks need.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max((files - OTHER_FILES) // 2, 16))


_serving: dict[uvicorn.Server, socket.socket] = {}


def open_sockets() -> list[int]:
    """Return the descriptors of the listening sockets in this process and of their connections."""
    descriptors = [bound.fileno() for bound in _serving.values()]
    for server in _serving:
        sockets = [
            connection.transport.get_extra_info("socket") for connection in list(server.server_state.connections)
        ]
        descriptors += [taken.fileno() for taken in sockets if taken is not None]
    return [descriptor for descriptor in descriptors if descriptor >= 0]


@asynccontextmanager
async def serving(app: Starlette, host: str, port: int) -> AsyncIterator[int]:
    """Serve requests until the end of the block; yield the port (with *port* 0, the system chooses it).

    Raise Misconfigured if the address cannot be bound.
    """
    bound = _bound(host, port)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # WARNING would log every bad request
    server = _Server(_config(app))
    task = asyncio.create_task(server.serve(sockets=[bound]), name="http")
    _serving[server] = bound
    watch = asyncio.create_task(_drop_who_does_not_read(server), name="http readers")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.005)
        yield bound.getsockname()[1]
    finally:
        app.state.closing.set()
        server.should_exit = True
        watch.cancel()
        _serving.pop(server, None)
        await task


async def _drop_who_does_not_read(server: uvicorn.Server) -> None:
    """Check every connection every `READ_SECONDS`: reset it if the client has read less than `LEAST_READ` since the
    last check.
    """
    before: dict[Any, int] = {}
    while True:
        await asyncio.sleep(READ_SECONDS)
        unread = {peer: peer.transport.get_write_buffer_size() for peer in server.server_state.connections}
        for connection, size in unread.items():
            if size and before.get(connection, 0) and before[connection] - size < LEAST_READ:
                _cut(connection.transport)
        before = unread


def _cut(transport: asyncio.Transport) -> None:
    """Close a connection with a reset, so that the kernel also drops the unread data."""
    fileno: int = transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(fileno)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def serve(app: Starlette, host: str, port: int) -> None:
    """Serve requests until cancelled."""
    async with serving(app, host, port):
        await asyncio.Event().wait()


def check_free(host: str, port: int) -> None:
    """Raise Misconfigured if the address cannot be bound now."""
    _bound(host, port).close()


def _config(app: Starlette) -> uvicorn.Config:
    options: dict[str, Any] = {
        "http": _Protocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "backlog": BACKLOG,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    return uvicorn.Config(app, **options)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise Misconfigured(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from None
    bound.setblocking(False)
    return bound
