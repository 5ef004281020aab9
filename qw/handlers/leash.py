"""A deadline after which child processes are terminated, unless this process extends it.

A process that is stopped (SIGSTOP) or hangs cannot terminate its children, which would run in parallel with the next
attempt. The deadline is therefore in a memory file that this process shares with all supervisors: the heartbeat
extends it with one write, however many children there are, and `supervise.py` reads it whenever it wakes.
"""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import suppress
from contextvars import ContextVar


class Leash:
    """The deadline, on the clock of `lease.now`. It counts as passed until it is first extended."""

    def __init__(self) -> None:
        self._file = os.fdopen(_memory(), "r+b", buffering=0)
        self.extend(float("-inf"))

    def extend(self, deadline: float) -> None:
        """Let children run until *deadline*. Safe from any thread; no effect after `close`."""
        with suppress(ValueError, OSError):
            os.pwrite(self._file.fileno(), struct.pack("d", deadline), 0)

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("qw-leash")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


current_leash: ContextVar[Leash | None] = ContextVar("current_leash", default=None)
"""The leash of the child processes that are started in this context; None: they have no deadline."""
