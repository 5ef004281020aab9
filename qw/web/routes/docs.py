"""The OpenAPI document, and an HTML page that renders it without scripts."""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any

from starlette.responses import Response

from qw import __version__
from qw.web.openapi import document
from qw.web.route import Request, Route, get

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }
h2 { margin-top: 2rem; border-bottom: 1px solid #ddd; }
article { margin: .8rem 0; } code { font-family: ui-monospace, monospace; }
.method { display: inline-block; width: 4.5rem; font-weight: 600; } p { margin: .1rem 0 0 4.5rem; color: #555; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } p { color: #aaa; } }
"""
_POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


async def openapi(call: Request[None, None]) -> Any:
    """Get the OpenAPI document of this API."""
    return await asyncio.to_thread(document, call.site.table)


async def page(call: Request[None, None]) -> Response:
    """Get the API reference as an HTML page."""
    headers = {"Content-Security-Policy": _POLICY}
    return Response(_page(call.site.table), media_type="text/html", headers=headers)


async def style(call: Request[None, None]) -> Response:
    """Get the style sheet of the API reference."""
    return Response(_STYLE, media_type="text/css")


def _page(table: tuple[Route, ...]) -> str:
    groups: dict[str, list[Route]] = {}
    for route in table:
        groups.setdefault(_group(route), []).append(route)
    body = "".join(f"<h2>{escape(name)}</h2>{''.join(map(_article, routes))}" for name, routes in groups.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>qw API</title>'
        '<link rel="stylesheet" href="/docs/style.css"></head>'
        f'<body><h1>qw {escape(__version__)}</h1><p><a href="/openapi.json">openapi.json</a></p>{body}</body></html>'
    )


def _group(route: Route) -> str:
    parts = route.path.strip("/").split("/")
    return parts[1] if parts[0] == "api" else "service"


def _article(route: Route) -> str:
    role = f" · {route.role}" if route.role else ""
    return (
        f'<article><span class="method">{route.method}</span><code>{escape(route.path)}</code>{role}'
        f"<p>{escape(route.doc)}</p></article>"
    )


_Document: Any = dict[str, Any]

ROUTES = (
    get("/openapi.json", openapi, _Document, role=None),
    get("/docs", page, str, role=None, media="text/html"),
    get("/docs/style.css", style, str, role=None, media="text/css"),
)
