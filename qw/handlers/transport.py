"""The httpx client behind `http_clients.client`: resolves once, checks every address, connects to a checked one.

The check runs when a connection is opened, not when a request is made: pool, Host header, certificate name and
redirects remain httpx's own, and none of them can reach an unchecked address.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpcore
import httpx

from qw.core.task.handler_api import Failure
from qw.handlers.egress import Egress, EgressRefused

MAX_REDIRECTS = 5

_CONNECT_SECONDS = 10.0  # per address, so that the next address is tried if one is dead
_KEPT_ACROSS_ORIGINS = {
    *("accept", "accept-encoding", "accept-language", "content-encoding", "content-length", "content-type", "host"),
    *("idempotency-key", "traceparent", "transfer-encoding", "user-agent"),
}


class TooManyRedirects(Failure):
    pass


def checked_client(egress: Egress) -> httpx.AsyncClient:
    no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))  # tasks must not share cookies
    return httpx.AsyncClient(
        transport=_Transport(egress),
        trust_env=False,
        cookies=no_cookies,
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
    )


async def send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send *request* and return the response after redirects; close it. Raise EgressRefused or TooManyRedirects."""
    for _ in range(MAX_REDIRECTS + 1):
        response = await client.send(request, stream=True)
        if response.next_request is None:
            return response
        await response.aclose()
        request = _next_hop(request, response.next_request)
    raise TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")


def _next_hop(request: httpx.Request, following: httpx.Request) -> httpx.Request:
    if request.url.scheme == "https" and following.url.scheme != "https":
        raise EgressRefused("a redirect from https to http")
    if _origin(request.url) != _origin(following.url):
        for name in set(following.headers) - _KEPT_ACROSS_ORIGINS:
            del following.headers[name]  # any other header may be a credential
    return following


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@cache
def _ssl_context(file: str | None, directory: str | None) -> ssl.SSLContext:
    """Return one TLS context for all clients, as loading certificates takes 20 ms. httpx reads these two variables."""
    return httpx.create_ssl_context()


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, egress: Egress) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            network_backend=_Backend(egress),
            max_connections=None,  # limited by the worker's slots
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        raw = httpcore.Request(
            method=request.method,
            url=target,
            headers=request.headers.raw,
            content=cast(AsyncIterable[bytes], request.stream),
            extensions=request.extensions,
        )
        with _as_httpx_errors():
            answer = await self._pool.handle_async_request(raw)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(cast(AsyncIterable[bytes], answer.stream)),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors():
            async for chunk in self._stream:
                yield chunk

    async def aclose(self) -> None:
        await cast(Any, self._stream).aclose()


@contextmanager
def _as_httpx_errors() -> Iterator[None]:
    """Raise httpx errors in place of httpcore's of the same names, because callers and ``retry_on`` expect those."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        name = type(error).__name__
        raise getattr(httpx, name, httpx.TransportError)(str(error) or name) from error


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._egress.addresses(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"cannot resolve {host}: {error.strerror or error}") from error
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
