"""What people type as the value of an option, read: durations, times, JSON from here, a file or stdin."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from qw.clock import clock
from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid, NotFound
from qw.core.times import parse_moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qw.core.task.payload import Json, JsonObject

SUSPENDED = "suspended"  # as a status: pending tasks whose handler waits for a time, a signal or a task


def directory(named: str | None) -> str:
    """The absolute path of *named*, else of the current directory. Raise Invalid where that was removed."""
    try:
        return os.path.abspath(named or os.getcwd())
    except FileNotFoundError:
        raise Invalid("the current directory no longer exists; change to another one, or name one with --cwd") from None


def program_of(words: Sequence[str], directory: str, *, keeps: bool) -> JsonObject:
    """The payload that runs *words* in *directory*: also what of them is not UTF-8 arrives as it was typed."""
    from qw.core.task.command import as_json

    program: JsonObject = {
        "argv": [as_json(os.fsencode(word)) for word in words],
        "cwd": as_json(os.fsencode(directory)),
    }
    return {**program, "background": "keep"} if keeps else program


def duration(text: str | None, flag: str) -> timedelta | None:
    """Raise Invalid naming *flag*."""
    if text is None:
        return None
    try:
        return parse_duration(text)
    except Invalid as error:
        raise Invalid(Fault(path=flag, message=str(error))) from None


def delay(text: str | None, flag: str) -> timedelta | None:
    """As `duration`, but a bare number is refused: of what unit it is, everybody thinks otherwise."""
    if text is not None and text.strip().isdecimal():
        number = text.strip()
        raise Invalid(
            Fault(path=flag, message=f"{text[:60]!r} has no unit: {number}s, {number}m, {number}h or {number}d")
        )
    return duration(text, flag)


def moment(text: str | None, flag: str) -> datetime | None:
    """``18:00``, ``tomorrow 9am``, ``monday 8:30``, RFC 3339 (``2026-11-24T18:00Z``); local where no zone is given."""
    if text is None:
        return None
    at = parse_moment(text, clock.now().astimezone(), datetime.astimezone, ahead=True)
    if at is None:
        message = f"{text[:60]!r} is not a time such as 18:00, 'tomorrow 9am', 2026-11-24T18:00 (local) or …T18:00Z"
        raise Invalid(Fault(path=flag, message=message))
    return at


def past(text: str | None, flag: str) -> datetime | None:
    """How long ago (``2h``, ``2 hours ago``), a day from its start (``yesterday``, ``monday``), or a time."""
    if text is None:
        return None
    at = parse_moment(text, clock.now().astimezone(), datetime.astimezone, ahead=False)
    if at is None:
        message = f"{text[:60]!r} is not a time or an age such as 2h, yesterday, 18:00 or 2026-11-24T18:00Z"
        raise Invalid(Fault(path=flag, message=message))
    return at


def json_object(text: str | None, flag: str) -> JsonObject:
    """The object in *text*, in the file after its ``@``, or on stdin for ``-``. None is the empty object."""
    from qw.core.task.payload import parse_object

    return {} if text is None else parse_object(_content(text, flag), path=flag.lstrip("-"))


def json_value(text: str | None, flag: str) -> Json:
    """As `json_object`, for any JSON value; None is null."""
    from qw.core.task.payload import parse

    return None if text is None else parse(_content(text, flag), path=flag.lstrip("-"))


def _content(text: str, flag: str) -> str | bytes:
    if text == "-":
        return sys.stdin.buffer.read(_MOST)
    if not text.startswith("@"):
        return text
    try:
        with Path(text[1:]).open("rb") as file:
            return file.read(_MOST)
    except FileNotFoundError:
        raise NotFound(f"{flag}: no such file: {text[1:]}") from None
    except OSError as error:
        raise Invalid(Fault(path=flag, message=f"{text[1:]} cannot be read: {error.strerror}")) from None


_MOST = 1024 * 1024 + 1  # bytes: one more than may be stored, so that too much is seen without reading all
