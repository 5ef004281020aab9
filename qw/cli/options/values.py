"""Parses option values: durations, times, and JSON from the command line, a file or stdin."""

from __future__ import annotations

import os
import re
import shlex
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from qw.clock import clock
from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid, NotFound
from qw.core.times import parse_moment, with_short_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qw.core.task.payload import Json, JsonObject

SUSPENDED = "suspended"  # a --status: pending tasks whose handler waits for a time, a signal or a task


def directory(named: str | None) -> str:
    """Return the absolute path of *named* or the current directory. Raise Invalid if the current directory was
    removed.
    """
    try:
        return os.path.abspath(named or os.getcwd())
    except FileNotFoundError:
        raise Invalid("the current directory no longer exists; change to another one, or name one with --cwd") from None


def program_of(words: Sequence[str], directory: str, *, keeps: bool) -> JsonObject:
    """Return the payload that runs *words* in *directory*. Words that are not UTF-8 keep their bytes."""
    from qw.core.task.command import as_json

    program: JsonObject = {
        "argv": [as_json(os.fsencode(word)) for word in words],
        "cwd": as_json(os.fsencode(directory)),
    }
    return {**program, "background": "keep"} if keeps else program


def duration(text: str | None, flag: str) -> timedelta | None:
    """Parse a duration. Raise Invalid that names *flag* and, for ``2 hours`` or ``5M``, the right spelling."""
    if text is None:
        return None
    try:
        return parse_duration(text)
    except Invalid as error:
        raise Invalid(Fault(path=flag, message=f"{error}{_duration_meant(text, flag)}")) from None


def _duration_meant(text: str, flag: str) -> str:
    short = with_short_units(text)
    with suppress(Invalid):
        parse_duration(short)
        return f"; did you mean {short}?"
    now = clock.now().astimezone()
    is_time = flag == "--in" and parse_moment(text, now, datetime.astimezone, ahead=True) is not None
    return f"; for a time: --at {shlex.quote(text)}" if is_time else ""


def delay(text: str | None, flag: str) -> timedelta | None:
    """Parse a duration like `duration`, but refuse a bare number, whose unit would be ambiguous."""
    if text is not None and text.strip().isdecimal():
        number = text.strip()
        raise Invalid(
            Fault(path=flag, message=f"{text[:60]!r} has no unit: {number}s, {number}m, {number}h or {number}d")
        )
    return duration(text, flag)


def moment(text: str | None, flag: str) -> datetime | None:
    """Parse ``18:00``, ``tomorrow 9am``, ``monday 8:30`` or RFC 3339 (``2026-11-24T18:00Z``); local time without a
    zone.
    """
    if text is None:
        return None
    at = parse_moment(text, clock.now().astimezone(), datetime.astimezone, ahead=True)
    if at is None:
        message = f"{text[:60]!r} is not a time such as 18:00, 'tomorrow 9am', 2026-11-24T18:00 (local) or …T18:00Z"
        hint = f"; did you mean {text[:2]}:{text[2:]}?" if re.fullmatch(r"([01]\d|2[0-3])[0-5]\d", text) else ""
        raise Invalid(Fault(path=flag, message=f"{message}{hint}"))
    return at


def past(text: str | None, flag: str) -> datetime | None:
    """Parse an age (``2h``, ``2 hours ago``), the start of a day (``yesterday``, ``monday``), or a time."""
    if text is None:
        return None
    at = parse_moment(text, clock.now().astimezone(), datetime.astimezone, ahead=False)
    if at is None:
        message = f"{text[:60]!r} is not a time or an age such as 2h, yesterday, 18:00 or 2026-11-24T18:00Z"
        raise Invalid(Fault(path=flag, message=message))
    return at


def json_object(text: str | None, flag: str) -> JsonObject:
    """Return the JSON object in *text*, in the file named after ``@``, or on stdin for ``-``; an empty object for
    None.
    """
    from qw.core.task.payload import parse_object

    if text is not None and (pairs := _PAIRS.fullmatch(text)):
        meant = dumps(dict(pair.split("=", 1) for pair in pairs[0].split(",")), ensure_ascii=False)
        raise Invalid(Fault(path=flag, message=f"{text[:60]!r} is not JSON; did you mean {shlex.quote(meant)}?"))
    return {} if text is None else parse_object(_content(text, flag), path=flag.lstrip("-"))


def json_value(text: str | None, flag: str) -> Json:
    """Return any JSON value as `json_object` does; null for None."""
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


_PAIRS = re.compile(r"[A-Za-z_]\w*=[^,={}]*(,[A-Za-z_]\w*=[^,={}]*)*")  # a=1,b=2
_MOST = 1024 * 1024 + 1  # bytes: one more than the limit, to detect a larger input without reading all of it
