"""What a process must not have of the daemon when a handler forks it without exec (`os.fork`, `multiprocessing`).

Its sockets: as long as a child holds them, the session lock stays when the daemon dies, so that nobody rescues its
tasks, and the HTTP port stays taken. They are replaced by /dev/null under their numbers; to close them in libpq's way
would say good-bye to the server in the daemon's name. Its signals: a TERM for the child would drain the daemon, through
the pipe that wakes the event loop. And its work: a child that comes back into the event loop ends there.

After exec nothing is left of all this: descriptors are closed and handlers of signals reset by the kernel.
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
    """From now on, in every child that this process forks. Cannot be taken back."""
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
