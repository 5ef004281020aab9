"""The OpenAPI document. Its HTML page belongs to the dashboard: see `qw.web.pages`."""

from __future__ import annotations

import asyncio
from typing import Any

from qw.web.route import Request, get


async def openapi(call: Request[None, None]) -> Any:
    """Get the OpenAPI document of this API."""
    return await asyncio.to_thread(call.site.document)


_Document: Any = dict[str, Any]

ROUTES = (get("/openapi.json", openapi, _Document, role=None),)
