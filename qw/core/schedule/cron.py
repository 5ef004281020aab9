"""Cron expressions: parsed with faults that name the field, and evaluated by croniter in naive local time.

croniter alone accepts more than qw supports (H, R, W, ?, years, a second at the end, ranges that wrap round) and reads
``5-5`` as the whole field. So it only receives checked expressions, converted to numbers. This module knows no time
zones: croniter's own handling fires a fixed time twice when clocks are set back.

One step takes 70 µs, the first use of an expression 200. Steps are cached, because many schedules share an expression:
after a weekend without daemons, each schedule of every minute is 3,000 steps behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

from qw.core.errors import Fault, Invalid, guess

if TYPE_CHECKING:
    from croniter import croniter

MAX_TEXT = 256  # characters
MAX_YEARS = 50  # an expression that matches no day in this time never matches

_SECOND = timedelta(seconds=1)
_ANY_TIME = datetime(2024, 1, 1)  # noqa: DTZ001 (on the wall)

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A checked expression. ``fields``: second, minute, hour, day of month, month, day of week, as text.

    If both day fields are restricted, a day matches if either does, as in Debian's cron; but if one begins with ``*``,
    both must match.
    """

    text: str
    fields: tuple[str, ...]
    spelled: str  # in the syntax of croniter; without the second if it was not given
    has_seconds: bool

    @property
    def follows_elapsed_time(self) -> bool:
        """Whether second, minute or hour begins with ``*``: then clock changes neither skip nor repeat a tick."""
        return any(field.startswith("*") for field in self.fields[:3])

    def after(self, wall: datetime) -> datetime | None:
        """Return the first match after *wall*; None if there is none within MAX_YEARS."""
        start = wall.replace(microsecond=0) if self.has_seconds else wall.replace(second=0, microsecond=0)
        return _next(self.spelled, start)

    def matches(self, wall: datetime) -> bool:
        return self.after(wall - _SECOND) == wall

    def times(self) -> Iterator[time]:
        """Yield the matching times of a day; nothing if hour, minute or second may have any value."""
        minutes, hours, _, _, _, *rest = _walker(self.spelled).expanded
        seconds = rest[0] if rest else [0]
        if "*" not in (*hours, *minutes, *seconds):
            yield from (time(*parts) for parts in product(hours, minutes, seconds))


@lru_cache(maxsize=16_384)
def _next(spelled: str, wall: datetime) -> datetime | None:
    from croniter import CroniterBadDateError

    try:
        moment: datetime = _walker(spelled).get_next(datetime, start_time=wall)
    except CroniterBadDateError:
        return None
    return moment


@lru_cache(maxsize=16_384)  # 2 kB each
def _walker(spelled: str) -> croniter:
    from croniter import croniter

    return croniter(
        spelled,
        _ANY_TIME,
        max_years_between_matches=MAX_YEARS,
        implement_cron_bug=True,  # the rule of `Cron` for a day field that begins with *
        second_at_beginning=True,
    )


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """The allowed values of a field."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = _Kind(name="day of month", low=1, high=31)
_WEEKDAY = _Kind(name="day of week", low=0, high=7, names=("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
_KINDS = (
    _Kind(name="second", low=0, high=59),
    _Kind(name="minute", low=0, high=59),
    _Kind(name="hour", low=0, high=23),
    _DAY,
    _Kind(name="month", low=1, high=12, names=_MONTHS),
    _WEEKDAY,
)

_ZONE = re.compile(r"(?:CRON_)?TZ=:?(.{0,60})", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20|21)\d\d(?:[-,/]\d+)*")
_ITEM = re.compile(r"(\*|\w{1,4})(?:-(\w{1,4}))?(?:/(\d{1,4}))?", re.ASCII)
_NTH = re.compile(r"(\w{1,4})#([1-5])|(\w{1,4})L", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=16_384)
def parse_cron(text: str, *, seconds: bool = False, path: str = "cron") -> Cron:
    """Parse *text*: five fields or a macro; with *seconds* also six fields, starting with the second.

    Raise Invalid with *path* and every invalid field, or if the expression never matches.
    """
    faults: list[str] = []
    fields = _fields(text.strip(), seconds, faults)
    spelled = [_spelled(field, kind, faults) for field, kind in zip(fields, _KINDS[-len(fields) :], strict=False)]
    cron = Cron(
        text=text.strip(),
        fields=("0", *fields)[-len(_KINDS) :],
        spelled=" ".join(spelled),
        has_seconds=len(fields) == len(_KINDS),
    )
    if not faults:
        faults += _unwalkable(cron)
    if faults:
        raise Invalid(*(Fault(path=path, message=message) for message in faults))
    return cron


def _fields(text: str, seconds: bool, faults: list[str]) -> list[str]:
    """Return the five or six fields; empty after a fault."""
    if len(text) > MAX_TEXT:
        faults.append(f"{len(text):,} characters; an expression has at most {MAX_TEXT}")
        return []
    if text.startswith("@"):
        if text.lower() in MACROS:
            return MACROS[text.lower()].split()
        if text.lower() == "@reboot":
            faults.append("'@reboot' is not a time; let the service manager start the command")
            return []
        known = (*MACROS, "@every 5m")
        faults.append(f"{text[:60]!r} is not one of {', '.join(known)}{guess(text[:60], known)}")
        return []
    fields = text.split()
    if len(fields) == 5 or (len(fields) == 6 and seconds):
        return fields
    faults.append(_misfit(fields, seconds))
    return []


_WORD = re.compile(r"[./~]|(?!sun|mon|tue|wed|thu|fri|sat)[a-z_]{4}", re.IGNORECASE)  # starts a command, not a field


def _misfit(fields: list[str], seconds: bool) -> str:
    """Return why these are not the fields of an expression, guessing what was meant."""
    needed = f"{'second, ' if seconds else ''}minute, hour, day of month, month and day of week"
    if not fields:
        return f"is empty; it needs {needed}"
    if match := _ZONE.match(fields[0]):
        return f"{fields[0][:60]!r} cannot be part of the expression: use timezone: {match[1] or 'UTC'} (--timezone)"
    if loose := next((text for text in fields if text.endswith(",") or text.startswith(",")), None):
        return f"a list cannot contain spaces: see {loose[:30]!r} in {len(fields)} fields"
    if len(fields) in (6, 7) and (_YEAR.fullmatch(fields[-1]) or (len(fields) == 7 and fields[-1] in "*?")):
        begins = ", and begin with a second (seconds: true)" if len(fields) == 7 and not seconds else ""
        return (
            f"{len(fields)} fields end with a year, which is not supported{begins}; for one time use at:, for a last "
            "one end:"
        )
    if len(fields) > 5 and (rest := fields[5 + seconds :]) and _WORD.match(rest[0]):
        times, command = " ".join(fields[: 5 + seconds]), " ".join(rest)
        return f"{rest[0][:60]!r} is not a time field; put a command after --: --cron {times!r} -- {command[:60]}"
    if len(fields) == 6:
        return "six fields begin with a second; allow them with seconds: true (--seconds)"
    if len(fields) == 1:
        return f"1 field; it needs {needed}, in one pair of quotes: '0 3 * * *'"
    return f"{len(fields)} fields; it needs {needed}"


def _spelled(field: str, kind: _Kind, faults: list[str]) -> str:
    """Return *field* in the syntax of croniter."""
    items = []
    for item in field.split(","):
        try:
            items.append(_item(item, kind))
        except ValueError as error:
            faults.append(f"{kind.name}: {error}")
    return ",".join(items)


def _item(item: str, kind: _Kind) -> str:
    if kind is _DAY and item.upper() == "L":
        return "L"
    if kind is _WEEKDAY and (match := _NTH.fullmatch(item)):
        day, n, last = match.groups()
        return f"{_number(day, kind)}#{n}" if day else f"L{_number(last, kind)}"
    if (match := _ITEM.fullmatch(item)) is None:
        raise ValueError(
            f"{item[:30]!r} is not a number, a range such as {kind.low}-{kind.high}, * or a step such as */2"
        )
    first, last, step = match.groups()
    if step and not 1 <= int(step) <= kind.high:
        raise ValueError(f"{item[:30]!r}: a step of {int(step)} is not between 1 and {kind.high}")
    if first == "*" and last:
        raise ValueError(f"{item[:30]!r}: * already covers the whole range")
    if first == "*":
        return f"*/{int(step)}" if step else "*"
    return _range(item, kind, first, last, step)


def _range(item: str, kind: _Kind, first: str, last: str | None, step: str | None) -> str:
    low = _number(first, kind)
    high = _number(last, kind) if last else _open_end(kind) if step else low
    if low > high:
        raise ValueError(f"{item[:30]!r} goes backwards; write two ranges separated by a comma")
    return str(low) if low == high else f"{low}-{high}/{int(step or 1)}"


def _open_end(kind: _Kind) -> int:
    return 6 if kind is _WEEKDAY else kind.high  # 7 is Sunday again


def _number(text: str, kind: _Kind) -> int:
    if text.lower() in kind.names:
        return kind.names.index(text.lower()) + (0 if kind is _WEEKDAY else 1)
    if not text.isdecimal():
        raise ValueError(
            f"{text!r} is not a number{' or a name' if kind.names else ''}{guess(text.lower(), kind.names)}"
        )
    if not kind.low <= int(text) <= kind.high:
        raise ValueError(f"{int(text)} is not between {kind.low} and {kind.high}")
    return int(text)


def field_number(text: str, field: str) -> int:
    """Return the number for *text*, a number or a name, in the field named *field*."""
    return _number(text, next(kind for kind in _KINDS if kind.name == field))


def _unwalkable(cron: Cron) -> Iterator[str]:
    week = cron.fields[5].split(",")
    nth = [item for item in week if _NTH.fullmatch(item)]
    if nth and (len(nth) < len(week) or not cron.fields[3].startswith("*")):
        # croniter rejects it beside weekdays, and ignores days of the month beside it
        yield f"day of week: {nth[0]!r} cannot be combined with other days, of week or month; create two schedules"
    elif cron.after(_ANY_TIME) is None:
        yield f"{cron.text!r} never fires: no such day occurs within {MAX_YEARS} years"
