"""Receives notifications (LISTEN)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum

from qw.store import workers
from qw.store.connection import connect, translated


class Channel(StrEnum):
    READY = "qw_ready"  # payload: queue, space, priority
    CANCEL = "qw_cancel"
    WAKEUP = "qw_wakeup"  # a task was signalled
    STACK = "qw_stack"  # the stack of a task is requested; payload: the worker
    LISTENING = "listening"  # yielded once, when the connection listens


async def notifications(url: str, worker: int) -> AsyncIterator[tuple[Channel, str]]:
    """Yield notifications without end. Also holds the worker's session lock. Raise Unavailable when it breaks."""
    conn = await connect(url, name="qw listener")
    try:
        with translated():
            await workers.hold_too(conn, worker)
            await conn.execute("listen qw_ready")
            await conn.execute("listen qw_cancel")
            await conn.execute("listen qw_wakeup")
            yield Channel.LISTENING, ""
            async for notify in conn.notifies():
                yield Channel(notify.channel), notify.payload
    finally:
        await conn.close()
