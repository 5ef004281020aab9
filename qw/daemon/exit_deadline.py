"""Ends the process if a stop takes longer than allowed, whatever handlers do."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)

LAST_SECONDS = 6.0  # what `before_exit` gets
FLUSH_SECONDS = 1.0


class ExitDeadline:
    """Runs in a separate thread, so that neither a blocked event loop nor a thread that cannot be joined delays it.

    ``before_exit`` is called last, in any thread; it returns the exit code.
    """

    def __init__(self) -> None:
        self.before_exit: Callable[[], int] = lambda: 0
        self._deadline = math.inf  # monotonic
        self._thread: threading.Thread | None = None
        self._is_ending = threading.Lock()

    def allow(self, seconds: float) -> None:
        """Give the process *seconds* from now, replacing any earlier limit. Safe to call from a signal handler."""
        self._deadline = time.monotonic() + seconds
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="qw exit", daemon=True)
            self._thread.start()

    def end_now(self) -> NoReturn:
        """End the process without waiting for anything but ``before_exit``."""
        if self._is_ending.acquire(blocking=False):
            codes: list[int] = []
            _briefly(lambda: codes.append(self.before_exit()), LAST_SECONDS)
            _briefly(_flush, FLUSH_SECONDS)
            os._exit(codes[0] if codes else os.EX_TEMPFAIL)
        while True:  # another thread is at it
            time.sleep(60)

    def _watch(self) -> None:
        while time.monotonic() < self._deadline:
            time.sleep(0.05)
        self.end_now()


def _briefly(work: Callable[[], object], seconds: float) -> None:
    """Do *work* in a thread with a time limit, because it may wait forever."""
    thread = threading.Thread(target=work, name="qw last act", daemon=True)
    with contextlib.suppress(RuntimeError):  # the interpreter is ending and takes no more threads
        thread.start()
        thread.join(seconds)


def _flush() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
