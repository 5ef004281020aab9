"""The files of the dashboard. They need no authentication: all data comes from the API.

All URLs in the pages are relative to ``<base>``, which is set to the relative path from the requested URL to the root.
So they work under any mount and behind any proxy, whether it strips its prefix or not, without a setting.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from qw.web.compression import takes_gzip
from qw.web.endpoint import problem_response
from qw.web.errors import not_found
from qw.web.mount import path_below, way_to_root
from qw.web.site import Site

FOLDER = Path(__file__).parent / "ui"
BASE = b'<base href="/">'  # the placeholder in the HTML files
LEAST_GZIPPED = 1024  # bytes

POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'self'; object-src 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
MEDIA: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, kw_only=True)
class _File:
    version: tuple[int, int]  # modification time and size
    content: bytes
    gzipped: bytes | None  # None if compression does not make it smaller
    digest: str


class Pages:
    """The ASGI application of ``/``, everything under ``/ui/``, and the API reference ``/docs``.

    A path without a file extension, or one that a browser opens as a document, is a view and gets ``index.html``.
    """

    def __init__(self, site: Site, folder: Path = FOLDER) -> None:
        self._site = site
        self._folder = folder.resolve()
        self._files: dict[Path, _File] = {}

    def routes(self) -> list[BaseRoute]:
        return [Route(path, self, methods=["GET"]) for path in ("/", "/docs", "/ui", "/ui/{path:path}")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"].get("path", "")
        is_file = Path(name).suffix in MEDIA and _header(scope, b"sec-fetch-dest") != "document"
        page = "docs.html" if path_below(scope) == "/docs" else "index.html"
        response = await self._response(scope, name if is_file else page)
        self._site.requests["GET", "/ui", response.status_code] += 1
        await response(scope, receive, send)

    async def _response(self, scope: Scope, name: str) -> Response:
        path = self._folder / name
        media = MEDIA.get(path.suffix)
        file = await asyncio.to_thread(self._read, path) if media else None
        if file is None or media is None:
            return problem_response(not_found(scope["method"], path_below(scope)))
        content, gzipped, digest = file.content, file.gzipped, file.digest
        if path.suffix == ".html":
            base = way_to_root(scope)
            content, gzipped = content.replace(BASE, b'<base href="%s">' % base.encode()), None
            digest += f"-{base.count('/')}"
        etag = f'W/"{digest}"'
        headers = {
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-cache",
            "ETag": etag,
            "Vary": "Accept-Encoding",
        }
        if etag in _header(scope, b"if-none-match"):
            return Response(status_code=304, headers=headers)
        if gzipped is not None and takes_gzip(_header(scope, b"accept-encoding")):
            content, headers["Content-Encoding"] = gzipped, "gzip"
        return Response(content, media_type=media, headers=headers)

    def _read(self, path: Path) -> _File | None:
        """Return the file if it is inside the folder. It is cached until it changes."""
        try:
            path = path.resolve(strict=True)
            if not path.is_relative_to(self._folder) or not path.is_file():
                return None
            about = path.stat()
            version = about.st_mtime_ns, about.st_size
            known = self._files.get(path)
            if known is None or known.version != version:
                known = self._files[path] = _loaded(path.read_bytes(), version)
        except (OSError, ValueError):
            return None
        return known


def _loaded(content: bytes, version: tuple[int, int]) -> _File:
    smaller = gzip.compress(content, 6, mtime=0) if len(content) >= LEAST_GZIPPED else content
    return _File(
        version=version,
        content=content,
        gzipped=smaller if len(smaller) < len(content) else None,
        digest=hashlib.sha256(content).hexdigest()[:20],
    )


def _header(scope: Scope, name: bytes) -> str:
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)
