"""Reports the state of the daemon to systemd (sd_notify(3)), if systemd started it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


SEND_SECONDS = 0.5  # how long a full socket may delay the daemon; what does not fit by then is dropped


def notify(state: str) -> None:
    """Send *state*, such as ``READY=1``. Does nothing if systemd did not ask for it."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SEND_SECONDS)
        sock.sendto(state.encode(), address)


def start_watchdog(trouble: Callable[[], str | None]) -> None:
    """Notify the watchdog twice per interval while *trouble* reports nothing. Does nothing if systemd did not ask for
    it.

    It has its own thread, since a handler may block the event loop.
    """
    micros = os.environ.get("WATCHDOG_USEC", "")
    if micros.isdigit() and int(micros) > 0:
        arguments = (trouble, int(micros) / 2_000_000)
        threading.Thread(target=_watch, args=arguments, name="qw watchdog", daemon=True).start()


def _watch(trouble: Callable[[], str | None], seconds: float) -> None:
    before: str | None = None
    while True:
        problem = trouble()
        if problem is None:
            notify("WATCHDOG=1")
        if problem != before:
            notify(f"STATUS={problem or 'healthy'}")
            log.error(
                "watchdog notifications stopped" if problem else "watchdog notifications resumed",
                extra={"reason": problem},
            )
        before = problem
        time.sleep(seconds)
