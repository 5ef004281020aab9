"""The handler of benchmarks.scale. It waits, as a handler that calls another service does."""

from __future__ import annotations

import asyncio

import qw

app = qw.Handlers()


@app.handler("pause")
async def pause(ms: int) -> None:
    """Wait *ms* milliseconds; 0: not at all."""
    if ms:
        await asyncio.sleep(ms / 1000)
