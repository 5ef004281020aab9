"""The command line: thin commands over the client. Only this package imports typer and rich.

At start only the standard library and typer are imported; each command imports everything else when it runs.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from qw.cli.completion import Table


def main() -> None:
    """Run ``qw`` and end the process with its exit code."""
    is_interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C during the imports below: no traceback
    _open_standard_streams()
    if "_QW_COMPLETE" in os.environ:
        _complete()
    gc.set_threshold(500_000)  # imported objects stay; searching them for cycles takes 1/20 of the start
    from qw.cli.program import run

    if is_interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(sys.argv[1:])
    if "qw.daemon.daemon" not in sys.modules:
        gc.freeze()  # the collection at exit would take a fifth of a short command
    else:
        gc.unfreeze()  # libraries of handlers, such as DuckDB, report objects left at exit
    sys.exit(code)


def _complete() -> NoReturn:
    """Answer a shell's completion request and exit without interpreter cleanup, in a tenth of the time."""
    from qw.cli.completion import complete

    code = 1
    try:
        code = complete(_commands)
        sys.stdout.flush()
    except Exception:  # any error text would be written into the user's command line
        if os.environ.get("QW_LOG_LEVEL", "").lower() == "debug":
            raise
    os._exit(code)


def _commands() -> Table:
    from qw.cli.completion_table import commands

    return commands()


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed (``<&-``, ``2>&-``).

    Otherwise the next file or socket would get its descriptor number and receive what is printed, and libuv would
    abort.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free descriptor: this one
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
