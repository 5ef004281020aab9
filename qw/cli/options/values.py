"""What people type as the value of an option, read: durations, times, JSON from here, a file or stdin."""

from __future__ import annotations

import os
import sys
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from qw.clock import clock
from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qw.core.task.payload import JsonObject


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


def moment(text: str | None, flag: str) -> datetime | None:
    """RFC 3339 (``2026-11-24T18:00Z``); without a zone, the time is local."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone() if found.tzinfo is None else found
    except (ValueError, OverflowError):
        message = f"{text[:60]!r} is not a time such as 2026-11-24T18:00 (local) or 2026-11-24T18:00Z"
        raise Invalid(Fault(path=flag, message=message)) from None


def past(text: str | None, flag: str) -> datetime | None:
    """A time, how long ago it was (``2h``), or ``today`` or ``yesterday``: their beginning, in local time."""
    if text is None:
        return None
    if text in ("today", "yesterday"):
        today = clock.now().astimezone().date()
        return datetime.combine(today - timedelta(days=text == "yesterday"), time()).astimezone()
    try:
        return clock.now() - parse_duration(text)
    except Invalid:
        return moment(text, flag)
    except OverflowError:
        raise Invalid(Fault(path=flag, message=f"{text[:60]!r} is too long ago")) from None


def json_object(text: str | None, flag: str) -> JsonObject:
    """The object in *text*, in the file after its ``@``, or on stdin for ``-``. None is the empty object."""
    from qw.core.task.payload import parse_object

    return {} if text is None else parse_object(_content(text, flag), path=flag.lstrip("-"))


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
