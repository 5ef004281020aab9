"""Cron expressions: read with every fault named by its field, and walked over naive local time.

The fields are sets of numbers, so that the next match is a handful of look-ups: 5 µs, where a general cron library
takes 130; ten thousand schedules may be due in the same minute. What local time means in a zone is not known here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property, lru_cache

from qw.core.errors import Fault, Invalid, guess

MAX_TEXT = 256  # characters
MAX_YEARS = 50  # an expression that matches no day in them never does

_SECOND = timedelta(seconds=1)
_ANY_TIME = datetime(2024, 1, 1)  # noqa: DTZ001 (on the wall)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

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
    """A checked expression. ``fields`` are its texts: second, minute, hour, day of month, month, day of week.

    Both day fields restricted: either matches, as in Debian's cron; but where one begins with ``*``, both must.
    """

    text: str
    fields: tuple[str, ...]
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    is_last_day: bool = False
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()  # (weekday, n); n -1: the last of the month

    @property
    def follows_elapsed_time(self) -> bool:
        """Second, minute or hour begins with ``*``: clock changes neither drop nor double a tick."""
        return any(field.startswith("*") for field in self.fields[:3])

    def after(self, wall: datetime) -> datetime | None:
        """The first match after *wall*; None when there is none for MAX_YEARS."""
        wall = wall.replace(microsecond=0) + _SECOND
        day = wall.date()
        if self._matches(day) and (found := self._time_from(wall.hour, wall.minute, wall.second)):
            return datetime.combine(day, found)
        next_day = self._day_after(day)
        return datetime.combine(next_day, self._first_time) if next_day else None

    @cached_property
    def _first_time(self) -> time:
        return time(self.hours[0], self.minutes[0], self.seconds[0])

    def matches(self, wall: datetime) -> bool:
        return self.after(wall - _SECOND) == wall

    def _time_from(self, hour: int, minute: int, second: int) -> time | None:
        """The first match of a day at or after the given time."""
        for h in self.hours[bisect_left(self.hours, hour) :]:
            if h > hour:
                return time(h, self.minutes[0], self.seconds[0])
            for m in self.minutes[bisect_left(self.minutes, minute) :]:
                if m > minute:
                    return time(h, m, self.seconds[0])
                if (place := bisect_left(self.seconds, second)) < len(self.seconds):
                    return time(h, m, self.seconds[place])
        return None

    def _day_after(self, day: date) -> date | None:
        from_day = day.day + 1
        for months in range(12 * MAX_YEARS + 1):
            years, month = divmod(day.month - 1 + months, 12)
            year, month = day.year + years, month + 1
            if month in self.months:
                for n in range(from_day, monthrange(year, month)[1] + 1):
                    if self._matches(date(year, month, n)):
                        return date(year, month, n)
            from_day = 1
        return None

    def _matches(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = self._matches_month(day), self._matches_week(day)
        if self.fields[3].startswith("*") or self.fields[5].startswith("*"):
            return in_month and in_week
        return in_month or in_week

    def _matches_month(self, day: date) -> bool:
        return day.day in self.days or (self.is_last_day and day.day == monthrange(day.year, day.month)[1])

    def _matches_week(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        if weekday in self.weekdays:
            return True
        if not self.nth_weekdays:
            return False
        is_last = day.day + 7 > monthrange(day.year, day.month)[1]
        return (weekday, (day.day + 6) // 7) in self.nth_weekdays or (is_last and (weekday, -1) in self.nth_weekdays)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What may stand in a field."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_KINDS = (
    _Kind(name="second", low=0, high=59),
    _Kind(name="minute", low=0, high=59),
    _Kind(name="hour", low=0, high=23),
    _Kind(name="day of month", low=1, high=31),
    _Kind(name="month", low=1, high=12, names=_MONTHS),
    _Kind(name="day of week", low=0, high=7, names=_DAYS),
)

_ITEM = re.compile(r"(\*|\w{1,4})(?:-(\w{1,4}))?(?:/(\d{1,4}))?", re.ASCII)
_NTH = re.compile(r"(\w{1,4})#([1-5])|(\w{1,4})L", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=4096)
def parse_cron(text: str, *, seconds: bool = False, path: str = "cron") -> Cron:
    """The expression in *text*: five fields or a macro; with *seconds* also six, the first being the second.

    Raise Invalid naming *path* and each field that is wrong, or that it never matches.
    """
    faults: list[str] = []
    cron = _parse(text, seconds, faults)
    if cron is not None and not faults and cron.after(_ANY_TIME) is None:
        faults.append(f"{text!r} never fires: no such day comes in {MAX_YEARS} years")
    if cron is None or faults:
        raise Invalid(*(Fault(path=path, message=message) for message in faults))
    return cron


def _parse(text: str, seconds: bool, faults: list[str]) -> Cron | None:
    if len(text) > MAX_TEXT:
        faults.append(f"{len(text):,} characters; an expression has at most {MAX_TEXT}")
        return None
    fields = _fields(text.strip(), seconds, faults)
    if not fields:
        return None
    second, minute, hour, month = (_numbers(fields[n], _KINDS[n], faults) for n in (0, 1, 2, 4))
    day_items = fields[3].split(",")
    days = _numbers(",".join(item for item in day_items if item.upper() != "L"), _KINDS[3], faults)
    week_items = fields[5].split(",")
    nth = _nth(week_items, faults)
    weekdays = _numbers(",".join(item for item in week_items if not _NTH.fullmatch(item)), _KINDS[5], faults)
    return (
        Cron(
            text=text.strip(),
            fields=tuple(fields),
            seconds=tuple(sorted(second)),
            minutes=tuple(sorted(minute)),
            hours=tuple(sorted(hour)),
            days=frozenset(days),
            months=frozenset(month),
            weekdays=frozenset(day % 7 for day in weekdays),
            is_last_day=any(item.upper() == "L" for item in day_items),
            nth_weekdays=frozenset(nth),
        )
        if not faults
        else None
    )


def _fields(text: str, seconds: bool, faults: list[str]) -> list[str]:
    """Six texts, the second being 0 where it is not given; empty after a fault."""
    if text.startswith("@"):
        if text.lower() in MACROS:
            return ["0", *MACROS[text.lower()].split()]
        known = (*MACROS, "@every 5m")
        faults.append(f"{text[:60]!r} is not one of {', '.join(known)}{guess(text[:60], known)}")
        return []
    fields = text.split()
    if len(fields) == 5:
        return ["0", *fields]
    if len(fields) == 6 and seconds:
        return fields
    if len(fields) == 6:
        faults.append("six fields begin with a second, which must be asked for with seconds: true")
    elif not fields:
        faults.append("is empty; it needs minute, hour, day of month, month and day of week")
    else:
        faults.append(f"{len(fields)} fields; it needs minute, hour, day of month, month and day of week")
    return []


def _numbers(field: str, kind: _Kind, faults: list[str]) -> set[int]:
    """The numbers that *field* stands for; none where it is empty."""
    numbers: set[int] = set()
    for item in field.split(",") if field else ():
        try:
            numbers |= _item(item, kind)
        except ValueError as error:
            faults.append(f"{kind.name}: {error}")
    return numbers


def _item(item: str, kind: _Kind) -> set[int]:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(
            f"{item[:30]!r} is not a number, a range such as {kind.low}-{kind.high}, * or a step such as */2"
        )
    first, last, step = match.groups()
    if first == "*" and last:
        raise ValueError(f"{item[:30]!r}: * is the whole range already")
    low = kind.low if first == "*" else _number(first, kind)
    high = _number(last, kind) if last else _open_end(kind) if first == "*" or step else low
    if low > high:
        raise ValueError(f"{item[:30]!r} goes backwards; write two ranges with a comma between them")
    if step and not 1 <= int(step) <= kind.high:
        raise ValueError(f"{item[:30]!r}: a step of {int(step)} is not between 1 and {kind.high}")
    return set(range(low, high + 1, int(step or 1)))


def _open_end(kind: _Kind) -> int:
    return 6 if kind.names is _DAYS else kind.high  # 7 is Sunday once more


def _number(text: str, kind: _Kind) -> int:
    if text.lower() in kind.names:
        return kind.names.index(text.lower()) + (0 if kind.names is _DAYS else 1)
    if not text.isdecimal():
        raise ValueError(
            f"{text!r} is not a number{' or a name' if kind.names else ''}{guess(text.lower(), kind.names)}"
        )
    if not kind.low <= int(text) <= kind.high:
        raise ValueError(f"{int(text)} is not between {kind.low} and {kind.high}")
    return int(text)


def field_number(text: str, field: str) -> int:
    """The number that *text*, a number or a name, stands for in a field called *field*."""
    return _number(text, next(kind for kind in _KINDS if kind.name == field))


def _nth(items: list[str], faults: list[str]) -> Iterator[tuple[int, int]]:
    """Weekdays of the month: ``mon#2`` is the second Monday, ``5L`` the last Friday."""
    for item in items:
        if match := _NTH.fullmatch(item):
            day, n, last = match.groups()
            try:
                yield _number(day or last, _KINDS[5]) % 7, int(n) if n else -1
            except ValueError as error:
                faults.append(f"{_KINDS[5].name}: {error}")
