"""Waits for the database at start-up instead of exiting.

A server that starts, recovers, fails over, has no free connection or cannot be reached may be available soon. A wrong
password, a missing database or role, and an unknown schema do not go away by waiting and end the start at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from qw.core.errors import Unavailable
from qw.daemon.loops import TroubleLog, retry_seconds
from qw.daemon.systemd import notify
from qw.store.errors import NotReady, ReadOnly

log = logging.getLogger(__name__)

COMMAND_WAIT = timedelta(seconds=5)  # what a command waits for a server that says itself that it is not ready

T = TypeVar("T")


async def waiting_for_database(attempt: Callable[[], Awaitable[T]], *, limit: timedelta | None) -> T:
    """The result of *attempt*, retried while it raises Unavailable, up to *limit*; None: without limit.

    A failed *attempt* must leave nothing behind. The reason for waiting is logged and sent to systemd.
    """
    trouble = TroubleLog("start")
    deadline = None if limit is None else time.monotonic() + limit.total_seconds()
    failures = 0
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            failures += 1
            pause = retry_seconds(failures)
            if deadline is not None and time.monotonic() + pause > deadline:
                raise
            trouble.report(error)
            notify(f"STATUS=waiting for the database: {error}\nEXTEND_TIMEOUT_USEC=60000000")
        await asyncio.sleep(pause)


async def opened_soon(attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of *attempt*, retried for COMMAND_WAIT while the server answers that it is not ready or is read-only.

    For commands, where an unknown host is an error at once.
    """
    deadline = time.monotonic() + COMMAND_WAIT.total_seconds()
    failures = 0
    while True:
        try:
            return await attempt()
        except (NotReady, ReadOnly):
            failures += 1
            pause = retry_seconds(failures)
            if time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
