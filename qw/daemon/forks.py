"""Protects the daemon when a handler forks its process without exec (`os.fork`, `multiprocessing`).

Sockets: while a child holds them, the session lock outlives the daemon, so its tasks are not rescued, and the HTTP
port stays in use. They are replaced by /dev/null under the same numbers; closing them through libpq would end the
daemon's sessions. Signals: a SIGTERM to the child would drain the daemon through the pipe that wakes the event loop.
The event loop: a child that returns into it exits.

After exec none of this remains: descriptors are closed and signal handlers are reset by the kernel.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from typing import NoReturn

from qw.daemon.event_loop import forbid_loops
from qw.store import sessions

_NOTE = b"qw: a process that a handler forked came back into the daemon's event loop; it ends here, with code 1\n"


def guard_forks() -> None:
    """Do this in every child that the process forks from now on. Cannot be undone."""
    os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    _forget_signals()
    forbid_loops(_end)
    _replace({*sessions.descriptors(), *_http_sockets()})


def _http_sockets() -> Iterable[int]:
    server = sys.modules.get("qw.web.server")  # loaded only where HTTP is served
    return server.open_sockets() if server else ()


def _forget_signals() -> None:
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _replace(descriptors: Iterable[int]) -> None:
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)


def _end(*_: object, **__: object) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, _NOTE)
    os._exit(1)
