"""How to run this program again, for commands that are shown to users."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def this_program() -> str:
    """Return ``qw`` if the shell finds this program by that name, otherwise the path it was started by."""
    started = Path(sys.argv[0])
    program = shutil.which("qw")
    if started.name != "qw" or (program and Path(program).resolve() == started.resolve()):
        return "qw"
    try:
        return shlex.quote(os.path.relpath(started) if started.is_relative_to(Path.cwd()) else str(started))
    except OSError:  # the current directory was removed
        return shlex.quote(str(started))
