"""Schedules in words, for people who do not read cron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from qw.core.duration import format_duration
from qw.core.schedule.cron import Cron, field_number, parse_cron
from qw.core.schedule.schedule import Schedule, TaskTarget

_MOST_TIMES = 6  # a longer list says less than its rule
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def describe(schedule: Schedule) -> str:
    """When it is due: ``at 03:00 every day, Europe/Berlin``. Raise Invalid when its expression cannot be read."""
    if schedule.every is not None:
        return f"every {format_duration(schedule.every)}"
    if schedule.at is not None:
        return f"once, at {schedule.at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{describe_cron(parse_cron(schedule.cron or '', seconds=schedule.seconds))}, {schedule.timezone}"


def describe_target(schedule: Schedule) -> str:
    """What it starts: ``task send_email``, ``workflow invoice``."""
    target = schedule.target
    return f"task {target.type}" if isinstance(target, TaskTarget) else f"workflow {target.workflow}"


def describe_cron(cron: Cron) -> str:
    """When it is due, in words: ``every 15 minutes from 09:00 to 17:59 on Monday to Friday``."""
    at, days = _clock_times(cron), _days(cron)
    said = f"at {at}" if at else _rhythms(cron)
    if days:
        said += f" on {days}"
    elif at:
        said += " every day"
    return said if cron.fields[4] == "*" else f"{said} in {_items(cron.fields[4], _month)}"


def _clock_times(cron: Cron) -> str:
    """The times of day where they are few and fixed, else nothing."""
    times = list(islice(cron.times(), _MOST_TIMES + 1))
    if cron.follows_elapsed_time or not times or len(times) > _MOST_TIMES:
        return ""
    return _and([f"{each:%H:%M:%S}" if each.second else f"{each:%H:%M}" for each in times])


def _rhythms(cron: Cron) -> str:
    second, minute, hour = cron.fields[:3]
    parts = [] if second == "0" else [_rhythm(second, "second")]
    if minute != "*" or not parts:
        parts.append(_rhythm(minute, "minute"))
    if hour == "*":
        said = " of ".join(parts)
        return "every hour" if said == "at minute 0" else said if said.startswith("every") else f"{said} of every hour"
    return f"{' of '.join(parts)} {_hours(hour)}"


def _rhythm(field: str, unit: str) -> str:
    if field == "*":
        return f"every {unit}"
    if field.startswith("*/") and "," not in field:
        return f"every {field[2:]} {unit}s"
    return f"at {unit} {field}" if field.isdecimal() else f"at {unit}s {field}"


def _hours(field: str) -> str:
    first, _, last = field.partition("-")
    if field.startswith("*/") and "," not in field:
        return f"of every {_nth(int(field[2:]))} hour"
    if field.isdecimal() or (first.isdecimal() and last.isdecimal()):
        return f"from {int(first):02}:00 to {int(last or first):02}:59"
    return f"of the hours {field}"


def _days(cron: Cron) -> str:
    month, week = cron.fields[3], cron.fields[5]
    in_month = _month_days(month) if month != "*" else ""
    in_week = _items(week, _weekday) if week != "*" else ""
    if in_month and in_week:
        either = not (month.startswith("*") or week.startswith("*"))
        return f"{in_month}{' or on ' if either else ', if it is '}{in_week}"
    return in_month or in_week


def _month_days(field: str) -> str:
    if field.startswith("*/") and "," not in field:
        return f"every {_nth(int(field[2:]))} day of the month"
    if field.upper() == "L":
        return "the last day of the month"
    numbers = _items(field, lambda item: "the last" if item.upper() == "L" else item)
    return f"{'day' if field.isdecimal() else 'days'} {numbers} of the month"


def _items(field: str, name: Callable[[str], str]) -> str:
    """A list field in words; ranges are ``a to b``, steps stay as they are."""
    said = []
    for item in field.split(","):
        first, _, last = item.partition("-")
        if "/" in item:
            said.append(item)
        else:
            said.append(f"{name(first)} to {name(last)}" if last else name(first))
    return _and(said)


def _weekday(item: str) -> str:
    day, _, n = item.partition("#")
    if n:
        return f"the {_nth(int(n))} {_weekday(day)} of the month"
    if item[-1:].upper() == "L":
        return f"the last {_weekday(item[:-1])} of the month"
    return _WEEKDAYS[field_number(item, "day of week")]


def _month(item: str) -> str:
    return _MONTHS[field_number(item, "month") - 1]


def _nth(n: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th") if n % 100 not in (11, 12, 13) else "th"
    return f"{n}{ending}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
