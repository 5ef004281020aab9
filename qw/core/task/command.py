"""Programs run by tasks, declared under ``commands:`` or in the payload: shells, exit codes, output formats."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from qw.core.task.error_kind import EXIT, TIMEOUT
from qw.core.task.payload import Json


class Background(StrEnum):
    """What happens to processes that are still running when their command ends."""

    END = "end"
    KEEP = "keep"


MAX_INPUT = 512 * 1024  # bytes of stdin that a task can store for its command


def as_json(data: bytes) -> Json:
    """Return *data* as JSON: text, or ``{"base64": …}`` if it is not UTF-8, contains NUL, or is shorter that way."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    is_binary = "\0" in text or (len(data) > 1000 and len(json.dumps(text, ensure_ascii=False)) > len(data) * 4 / 3)
    return {"base64": b64encode(data).decode()} if is_binary else text


class Exit(StrEnum):
    """What an exit code means for the task."""

    DONE = "done"
    RETRY = "retry"
    REJECT = "reject"
    FAIL = "fail"  # fail the attempt; retried by policy


class StdoutFormat(StrEnum):
    """How a command's stdout is stored in the result. Newlines at its end are dropped."""

    TEXT = "text"
    LINES = "lines"
    JSON = "json"


ARTIFACT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""The name of a file shared by the steps of a run."""

Shell: TypeAlias = str | tuple[str, ...]
"""``sh`` or ``bash``, which stop at the first failure; or a program and its arguments, followed by the script file."""

SHELLS = ("sh", "bash")

TIMED_OUT, NOT_EXECUTABLE, NOT_FOUND = 124, 126, 127  # exit codes of shells for commands that did not finish


def words_of(payload: Mapping[str, Json]) -> str:
    """Return the command line of a command task, quoted for a shell; empty if the payload has none."""
    if isinstance(argv := payload.get("argv"), list):
        return shlex.join(map(_shown, argv))
    return str(payload.get("run") or payload.get("command") or "").strip()


def _shown(word: Json) -> str:
    """Return a word of a command as text; bytes that are not UTF-8 are escaped."""
    if isinstance(word, dict) and isinstance(encoded := word.get("base64"), str):
        try:
            return b64decode(encoded).decode(errors="backslashreplace")
        except ValueError:
            return encoded
    return str(word)


def exit_code_of(error_kind: str | None) -> int | None:
    """Return the exit code of a failed `command` task, 128 + n for signal n; None if it failed for another reason."""
    if error_kind == TIMEOUT:
        return TIMED_OUT
    name, _, number = (error_kind or "").partition(":")
    return int(number) if name == EXIT and number.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A program: a list of words, or a shell text. ``env`` and ``exit_codes`` are added to the defaults.

    ``shell``: for a shell text; None: the interpreter of its ``#!`` line, else sh.
    ``cwd`` None: a private directory that is deleted afterwards. ``user`` None: the daemon's user.
    """

    name: str
    run: tuple[str, ...] | str
    shell: Shell | None = None
    cwd: str | None = None
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta | None = None
    exit_codes: Mapping[int, Exit] = field(default_factory=dict)
    description: str = ""
    background: Background = Background.END
