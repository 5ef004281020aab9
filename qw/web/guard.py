"""Middleware for every request: rejects requests from other websites, and adds security headers to responses.

A website must not reach a daemon on loopback. Without tokens, the Host header must therefore be a name of this machine
(a name that only resolves to 127.0.0.1 is rejected), and an Origin other than our own must be listed in the settings.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qw.config import Settings
from qw.web.endpoint import problem_response
from qw.web.errors import Problem
from qw.web.mount import path_below

log = logging.getLogger("qw.web.access")

_LOCAL = ("localhost", "127.0.0.1", "::1")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_SINGLE = frozenset({b"host", b"content-type", b"content-encoding", b"idempotency-key", b"last-event-id"})
_METHODS = b"GET, HEAD, POST, PUT, DELETE, OPTIONS"
_ASKED_HEADERS = b"Authorization, Content-Type, Idempotency-Key, Prefer, Traceparent, Last-Event-ID, X-CSRF-Token"


class Guard:
    """ASGI middleware around the whole application. *is_local*: requests are not authenticated, so the Host is
    checked.
    """

    def __init__(self, app: ASGIApp, settings: Settings, *, access_log: bool, is_local: bool) -> None:
        self._app = app
        self._hosts = {*_LOCAL, settings.host.lower()} if is_local else None
        self._origins = frozenset(settings.cors_origins)
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host, origin, site, mode = _asked(scope["headers"])
        single = [name for name, _ in scope["headers"] if name in _SINGLE]
        repeated = next((name for name in single if single.count(name) > 1), None)
        allowed = origin if origin is not None and self._is_listed(origin) else None
        started = time.monotonic()

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_dress(message["headers"], allowed)]
                if self._access_log:
                    _log(scope, message["status"], time.monotonic() - started)
            await send(message)

        if repeated is not None or (b"host" not in single and scope["http_version"] == "1.1"):
            name = (repeated or b"host").decode().title()
            await problem_response(Problem(400, f"A request must have one {name} header"))(scope, receive, dressed)
        elif scope["method"] == "OPTIONS":
            await _no_content(allowed)(scope, receive, dressed)
        elif "\0" in scope["path"]:
            await problem_response(Problem(400, "The path must not contain NUL"))(scope, receive, dressed)
        elif refused := self._refused(host, origin, site, mode):
            await problem_response(refused)(scope, receive, dressed)
        else:
            _without_last_slash(scope)
            await self._app(scope, receive, dressed)

    def _is_listed(self, origin: bytes) -> bool:
        return "*" in self._origins or origin.decode("latin-1") in self._origins

    def _refused(self, host: bytes, origin: bytes | None, site: bytes, mode: bytes) -> Problem | None:
        if self._hosts is not None and _name(host) not in self._hosts:
            return Problem(403, "The Host header does not match this server")
        if origin is None:
            from_elsewhere = site == b"cross-site" and mode != b"navigate"
        else:
            ours = site == b"same-origin" or urlsplit(origin).netloc == host  # a proxy may have changed the Host
            from_elsewhere = not ours and not self._is_listed(origin)
        return Problem(403, "The origin of this page is not listed in QW_CORS_ORIGINS") if from_elsewhere else None


def _asked(headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes | None, bytes, bytes]:
    """Return Host, Origin, Sec-Fetch-Site and Sec-Fetch-Mode."""
    host, origin, site, mode = b"", None, b"", b""
    for name, value in headers:
        if name == b"host":
            host = value.lower()
        elif name == b"origin":
            origin = value.lower()
        elif name == b"sec-fetch-site":
            site = value
        elif name == b"sec-fetch-mode":
            mode = value
    return host, origin, site, mode


def _name(host: bytes) -> str:
    """Return the host name of a Host header, without its port."""
    try:
        return urlsplit(f"//{host.decode('ascii')}").hostname or ""
    except ValueError:
        return ""


def _dress(headers: Sequence[tuple[bytes, bytes]], allowed: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the headers to add to a response."""
    present = {name for name, _ in headers}
    more = [(name, value) for name, value in (*_SECURITY, _POLICY) if name not in present]
    if allowed is not None:
        more += [
            (b"access-control-allow-origin", allowed),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"Origin"),
        ]
    return more


def _no_content(allowed: bytes | None) -> Response:
    headers: dict[str, str] = {}
    if allowed is not None:
        headers = {
            "Access-Control-Allow-Methods": _METHODS.decode(),
            "Access-Control-Allow-Headers": _ASKED_HEADERS.decode(),
            "Access-Control-Max-Age": "600",
        }
    return Response(status_code=204, headers=headers)


def _without_last_slash(scope: Scope) -> None:
    below = path_below(scope)
    if len(below) > 1 and below.endswith("/"):
        path: str = scope["path"]
        scope["path"] = path[: len(path) - len(below)] + (below.rstrip("/") or "/")


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Log the request, with the path escaped as in JSON, so that a client cannot forge log lines."""
    path = json.dumps(scope["path"][:500])[1:-1]
    fields = {"method": scope["method"], "path": path, "status": status, "millis": round(seconds * 1000, 1)}
    log.info("request", extra=fields)
