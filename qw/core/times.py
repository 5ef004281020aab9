"""Times as users write them: ``18:00``, ``tomorrow 9am``, ``monday``, ``2 hours ago``, ``in 10 minutes``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import TypeAlias

from qw.core.duration import parse_duration
from qw.core.errors import Invalid

_DAYS = {"today": 0, "tomorrow": 1, "yesterday": -1}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NAMED_TIMES = {"noon": time(12), "midnight": time(0)}
_TIME = re.compile(r"(\d{1,2})(?:[:.](\d{2})(?::(\d{2}))?)?\s*([ap]m?)?", re.ASCII)
_UNITS = {
    **dict.fromkeys(("second", "seconds", "sec", "secs"), "s"),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), "m"),
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("week", "weeks"), "w"),
}
_COUNTED = re.compile(r"(\d+)\s*([a-z]+)", re.ASCII)
_LONGEST = 60  # characters

Placed: TypeAlias = Callable[[datetime], datetime]  # gives a naive local time its time zone


def parse_moment(text: str, now: datetime, placed: Placed, *, ahead: bool) -> datetime | None:
    """Parse *text* as a time; None if it is not understood. *now* and *placed* define the user's time zone.

    A time of day or a weekday means the next one if *ahead* is true, else the last one; ``2h`` means from now or ago.
    With *ahead*, words for the past, such as ``yesterday``, are not understood. Formats of at(1), such as
    ``now + 2 hours`` and ``noon tomorrow``, are supported.
    """
    words = text.strip().lower()[: _LONGEST + 1]
    if len(words) > _LONGEST:
        return None
    try:
        iso, distance = _iso(text.strip(), placed), _distance(words, now, ahead=ahead)
        return iso or distance or _day_and_time(words, now, placed, ahead=ahead)
    except (ValueError, OverflowError):
        return None


def with_short_units(words: str) -> str:
    """Return *words* with units as `parse_duration` knows them: ``2h`` for ``2 hours``."""
    return _COUNTED.sub(lambda part: f"{part[1]}{_UNITS.get(part[2], part[2])}", words.lower()).replace(" ", "")


def _iso(text: str, placed: Placed) -> datetime | None:
    """RFC 3339."""
    if not re.match(r"\d{4}-", text):
        return None
    moment = datetime.fromisoformat(text)
    return placed(moment) if moment.tzinfo is None else moment


def _distance(words: str, now: datetime, *, ahead: bool) -> datetime | None:
    """``now``, ``2h``, ``2h ago``, ``in 10 minutes``, ``now + 1 hour``."""
    if words == "now":
        return now
    if words.endswith(" ago"):
        if ahead:
            return None
        words = words.removesuffix(" ago")
    elif match := re.fullmatch(r"(?:in\s|now\s*\+)\s*(.+)", words):
        words, ahead = match[1], True
    words = with_short_units(words)
    if not re.match(r"\d|pt?\d", words) or re.fullmatch(r"[\d.]+", words):
        return None
    try:
        distance = parse_duration(words)
    except Invalid:
        return None
    return now + distance if ahead else now - distance


def _day_and_time(words: str, now: datetime, placed: Placed, *, ahead: bool) -> datetime | None:
    """``tomorrow 9am``, ``18:00``, ``9am tomorrow``, ``monday at 8:30``, ``noon``."""
    words = re.sub(r"(\d)\s+([ap]m)\b", r"\1\2", words.replace(",", " "))
    parts = [word for word in words.split() if word != "at"]
    days = [word for word in parts if _day(word, now, ahead=ahead) is not None]
    rest = [word for word in parts if word not in days]
    if len(days) > 1 or len(rest) > 1 or not parts:
        return None
    clock = _clock(rest[0]) if rest else time(0)
    if clock is None:
        return None
    if not days:
        moment = placed(datetime.combine(now.date(), clock))
        if ahead and moment <= now:
            return placed(datetime.combine(now.date() + timedelta(days=1), clock))
        if not ahead and moment > now:
            return placed(datetime.combine(now.date() - timedelta(days=1), clock))
        return moment
    day = _day(days[0], now, ahead=ahead)
    return None if day is None else placed(datetime.combine(day, clock))


def _day(word: str, now: datetime, *, ahead: bool) -> date | None:
    if word in _DAYS:
        if ahead and _DAYS[word] < 0:
            return None
        return now.date() + timedelta(days=_DAYS[word])
    for number, name in enumerate(_WEEKDAYS):
        if len(word) >= 3 and name.startswith(word):
            distance = (number - now.weekday()) % 7
            return now.date() + timedelta(days=(distance or 7) if ahead else distance - 7 if distance else 0)
    return date.fromisoformat(word) if re.fullmatch(r"\d{4}-\d\d-\d\d", word) else None


def _clock(word: str) -> time | None:
    """Return the time of day; None for a bare number, which is ambiguous."""
    if word in _NAMED_TIMES:
        return _NAMED_TIMES[word]
    match = _TIME.fullmatch(word)
    if match is None or (match[2] is None and match[4] is None):
        return None
    hour, half = int(match[1]), (match[4] or "")[:1]
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return time(hour, int(match[2] or 0), int(match[3] or 0))
