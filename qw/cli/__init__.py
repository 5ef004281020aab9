"""The command line: shells over the client. typer and rich are used here and nowhere else.

Every command starts with the standard library and typer alone; what it needs besides is imported when it runs.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run ``qw`` and end the process with its exit code."""
    gc.set_threshold(500_000)  # what is imported stays: to look for cycles among it takes a twentieth of a start
    from qw.cli.program import run

    code = run(sys.argv[1:])
    if "qw.daemon.daemon" not in sys.modules:
        gc.freeze()  # nor is there much to gain from a last look, which takes a fifth of a short command
    else:
        gc.unfreeze()  # what handlers loaded may count its objects in the end and print what is left, as DuckDB does
    sys.exit(code)
