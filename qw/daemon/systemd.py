"""Tells systemd how the daemon is, when it was started by it (sd_notify(3))."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send *state*, such as ``READY=1``. Does nothing where nobody asked for it."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)


async def keep_watchdog_quiet() -> None:
    """Send a sign of life twice per watchdog interval, for ever, as long as the event loop turns."""
    micros = os.environ.get("WATCHDOG_USEC", "")
    if not micros.isdigit():
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(micros) / 2_000_000)
