"""Tracks threads that may still do a handler's work. A thread cannot be stopped, so until then no other worker may
get the task.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from qw.services.execution.in_flight import running_claim

_PREFIX = "qw to_thread"
_LOOKUPS = (socket.getaddrinfo, socket.getnameinfo)  # of the event loop itself, whoever connects: they have no effects


class CountingExecutor(ThreadPoolExecutor):
    """The event loop's default executor, which runs `asyncio.to_thread`. It knows the unfinished calls and their
    handlers.
    """

    def __init__(self) -> None:
        super().__init__(thread_name_prefix=_PREFIX)
        self._busy: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self._busy.add(future)
        future.add_done_callback(self._busy.discard)
        claim = running_claim.get()
        if claim is not None and fn not in _LOOKUPS:
            own = claim.in_executor = claim.in_executor or set()
            own.add(future)
            future.add_done_callback(own.discard)
        return future

    @property
    def is_busy(self) -> bool:
        return any(future.running() for future in list(self._busy))


class HandlerThreads:
    """Created before the first handler runs."""

    def __init__(self) -> None:
        self.executor = CountingExecutor()
        self._before = set(threading.enumerate())

    def may_act(self) -> bool:
        """Whether a thread is running that a handler may have left behind. Daemon threads of libraries do not
        count.
        """
        return self.executor.is_busy or any(
            not thread.daemon and thread not in self._before and not thread.name.startswith(_PREFIX)
            for thread in threading.enumerate()
        )
