"""The command line: shells over the client. typer and rich are used here and nowhere else.

Every command starts with the standard library and typer alone; what it needs besides is imported when it runs.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from qw.cli.completion import Table


def main() -> None:
    """Run ``qw`` and end the process with its exit code."""
    _open_standard_streams()
    if "_QW_COMPLETE" in os.environ:
        _complete()
    gc.set_threshold(500_000)  # what is imported stays: to look for cycles among it takes a twentieth of a start
    from qw.cli.program import run

    code = run(sys.argv[1:])
    if "qw.daemon.daemon" not in sys.modules:
        gc.freeze()  # nor is there much to gain from a last look, which takes a fifth of a short command
    else:
        gc.unfreeze()  # what handlers loaded may count its objects in the end and print what is left, as DuckDB does
    sys.exit(code)


def _complete() -> NoReturn:
    """Answer the completion of a shell, and end without tidying up: that takes a tenth of the time."""
    from qw.cli.completion import complete

    code = 1
    try:
        code = complete(_commands)
        sys.stdout.flush()
    except Exception:  # of whatever kind: it would be written into a command line
        if os.environ.get("QW_LOG_LEVEL", "").lower() == "debug":
            raise
    os._exit(code)


def _commands() -> Table:
    from qw.cli.completion_table import commands

    return commands()


def _open_standard_streams() -> None:
    """Open /dev/null in place of standard streams that are closed (``<&-``, ``2>&-``).

    Otherwise the next file or socket takes their number: what is printed would go there, and libuv aborts the process.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
