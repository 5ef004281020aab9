"""Runs the user's editor: VISUAL, EDITOR, or vi."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from qw.core.errors import Invalid


def edited_text(text: str, name: str) -> tuple[Path, str]:
    """Edit *text* in a temporary file called *name*. Return the path of the file, which is kept, and the edited text.

    Raise Invalid if the editor fails.
    """
    path = Path(tempfile.mkdtemp(prefix="qw-")) / name
    path.write_text(text)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    if subprocess.run(["/bin/sh", "-c", f'{editor} "$1"', "sh", str(path)], check=False).returncode:
        raise Invalid(f"the editor exited with an error; nothing was changed, the text is in {path}")
    return path, path.read_text("utf-8")
