"""The pages of the dashboard and their files. They need no authentication: all data comes from the API.

All URLs in the pages are relative to ``<base>``, which is set to the relative path from the requested URL to the root.
So they work under any mount and behind any proxy, whether it strips its prefix or not, without a setting.

The URLs of the files contain a digest of all of them, ``ui/@DIGEST/…``: a browser keeps the files and asks for none of
them until one has changed. Asking for all 40 whether they changed took half of the time to show a screen again.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from qw.web.assets import MEDIA, Asset, Assets
from qw.web.compression import takes_gzip
from qw.web.endpoint import problem_response
from qw.web.errors import not_found
from qw.web.mount import path_below, way_to_root
from qw.web.site import Site

FOLDER = Path(__file__).parent / "ui"
BASE = '<base href="/">'  # the placeholders in the HTML files
MODULES = "<!-- modules -->"

POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'self'; object-src 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
FOR_GOOD = "public, max-age=31536000, immutable"

_VERSIONED = re.compile(r"@([0-9a-f]+)/(.+)")


class Pages:
    """The ASGI application of ``/``, everything under ``/ui/``, and the API reference ``/docs``.

    A path without a file extension, or one that a browser opens as a document, is a view and gets ``index.html``.
    """

    def __init__(self, site: Site, folder: Path = FOLDER) -> None:
        self._site = site
        self._assets = Assets(folder)

    def routes(self) -> list[BaseRoute]:
        return [Route(path, self, methods=["GET"]) for path in ("/", "/docs", "/ui", "/ui/{path:path}")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"].get("path", "")
        is_file = Path(name).suffix in MEDIA and _header(scope, b"sec-fetch-dest") != "document"
        response = await self._file(scope, name) if is_file else self._page(scope, name)
        self._site.requests["GET", "/ui", response.status_code] += 1
        await response(scope, receive, send)

    async def _file(self, scope: Scope, name: str) -> Response:
        match = _VERSIONED.fullmatch(name)
        version, path = match.groups() if match else ("", name)
        file = self._assets.files.get(path)
        if file is None:
            return problem_response(not_found(scope["method"], path_below(scope)))
        response = _response(scope, file, caching=FOR_GOOD if version == self._assets.version else "no-cache")
        if takes_gzip(_header(scope, b"accept-encoding")) and response.status_code == 200:
            gzipped = await asyncio.to_thread(lambda: file.gzipped)
            if gzipped is not None:
                response.body = gzipped
                response.headers["Content-Encoding"] = "gzip"
                response.headers["Content-Length"] = str(len(gzipped))
        return response

    def _page(self, scope: Scope, name: str) -> Response:
        page, script, screen = "index.html", "main.js", _screen(name)
        if path_below(scope) == "/docs":
            page, script, screen = "docs.html", "docs.js", ""
        folder = f"ui/@{self._assets.version}/"
        links = [f'<link rel="modulepreload" href="ui/{module}">' for module in self._assets.modules(script, screen)]
        html = self._assets.files[page].content.decode()
        html = html.replace(MODULES, "\n    ".join(links)).replace('="ui/', f'="{folder}')
        html = html.replace(BASE, f'<base href="{way_to_root(scope)}">')
        return _response(scope, Asset(html.encode(), MEDIA[".html"]), caching="no-cache")


def _screen(name: str) -> str:
    """Return the module of a view: of ``tasks`` and ``tasks/ID`` those of the list and of one task."""
    kind, _, rest = name.partition("/")
    return f"screens/{(kind.removesuffix('s') if rest else kind) or 'overview'}.js"


def _response(scope: Scope, file: Asset, *, caching: str) -> Response:
    etag = f'W/"{file.digest}"'
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": caching,
        "ETag": etag,
        "Vary": "Accept-Encoding",
    }
    if etag in _header(scope, b"if-none-match"):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media, headers=headers)


def _header(scope: Scope, name: bytes) -> str:
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)
