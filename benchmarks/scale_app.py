"""The handler that benchmarks.scale measures with: it waits, as one does that asks another service."""

from __future__ import annotations

import asyncio

import qw

app = qw.Handlers()


@app.handler("pause")
async def pause(ms: int) -> None:
    """Take *ms* milliseconds; 0: none."""
    if ms:
        await asyncio.sleep(ms / 1000)
