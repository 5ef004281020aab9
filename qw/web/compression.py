"""Compression of large responses: a run of 1,000 steps takes 430 kB of JSON, and 30 kB compressed."""

from __future__ import annotations

import asyncio
import gzip

from starlette.responses import Response

LEAST = 16 * 1024  # bytes from which a response is compressed
LEVEL = 1  # 4 ms for 430 kB; higher levels save little


async def compressed(response: Response) -> Response:
    """Return *response*, compressed if it is large. Its body must be complete."""
    response.headers["Vary"] = "Accept-Encoding"
    if len(response.body) < LEAST:
        return response
    response.body = await asyncio.to_thread(gzip.compress, response.body, LEVEL, mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.body))
    return response


def takes_gzip(accepted: str) -> bool:
    """Whether the Accept-Encoding header accepts gzip."""
    for choice in accepted.lower().split(","):
        coding, _, parameter = choice.partition(";")
        if coding.strip() in ("gzip", "*"):
            return parameter.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
