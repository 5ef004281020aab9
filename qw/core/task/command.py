"""Programs that tasks run, declared under ``commands:`` or brought along: their shells and their exit codes."""

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
    """What becomes of the processes that a command leaves running when it ends."""

    END = "end"
    KEEP = "keep"


MAX_INPUT = 512 * 1024  # bytes that a task keeps for its command's stdin


def as_json(data: bytes) -> Json:
    """*data* as a payload can hold it: text, or ``{"base64": …}`` where it is not UTF-8, has NULs, or is shorter so."""
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
    FAIL = "fail"  # a failed attempt, retried by policy


class StdoutFormat(StrEnum):
    """What a command's stdout becomes in its result, less the newlines at its end."""

    TEXT = "text"
    LINES = "lines"
    JSON = "json"


ARTIFACT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""A name of a file that steps of a run share."""

Shell: TypeAlias = str | tuple[str, ...]
"""``sh`` or ``bash``, which stop at the first failure; or a program and its arguments, which gets the text's file."""

SHELLS = ("sh", "bash")

TIMED_OUT, NOT_EXECUTABLE, NOT_FOUND = 124, 126, 127  # exit codes for what never ran to its end, as shells have them


def words_of(payload: Mapping[str, Json]) -> str:
    """The command line of a command task, as a shell would read it; empty where its payload has none."""
    if isinstance(argv := payload.get("argv"), list):
        return shlex.join(map(_shown, argv))
    return str(payload.get("run") or payload.get("command") or "").strip()


def _shown(word: Json) -> str:
    """A word of a command as text: of bytes that are not UTF-8, what can be read."""
    if isinstance(word, dict) and isinstance(encoded := word.get("base64"), str):
        try:
            return b64decode(encoded).decode(errors="backslashreplace")
        except ValueError:
            return encoded
    return str(word)


def exit_code_of(error_kind: str | None) -> int | None:
    """The exit code of a failed `command` task, 128 + n for signal n; None: it failed for another reason."""
    if error_kind == TIMEOUT:
        return TIMED_OUT
    name, _, number = (error_kind or "").partition(":")
    return int(number) if name == EXIT and number.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A program: a list of words, or a text for the shell. ``env`` and ``exit_codes`` come on top of the usual ones.

    ``shell``: of a text; None: the interpreter that its ``#!`` line names, else sh.
    ``cwd`` None: a private folder that is gone afterwards. ``user`` None: the daemon's.
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
