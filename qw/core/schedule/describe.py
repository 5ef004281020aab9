"""Descriptions of schedules in words, for people who do not read cron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, pairwise

from qw.core.duration import format_duration
from qw.core.schedule.cron import Cron, field_number, parse_cron
from qw.core.schedule.schedule import COMMAND, Schedule, TaskTarget
from qw.core.task.command import words_of
from qw.core.task.masking import masked_object

_MOST_TIMES = 6  # longer lists are described by their rule
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def describe(schedule: Schedule) -> str:
    """Return when it is due: ``at 03:00 every day, Europe/Berlin``. Raise Invalid for an unreadable expression."""
    if schedule.every is not None:
        return f"every {format_duration(schedule.every)}"
    if schedule.at is not None:
        return f"once, at {schedule.at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{describe_cron(parse_cron(schedule.cron or '', seconds=schedule.seconds))}, {schedule.timezone}"


def describe_target(schedule: Schedule) -> str:
    """Return what it starts: ``tar -czf home.tgz .``, ``task send_email``, ``workflow invoice``."""
    target = schedule.target
    if not isinstance(target, TaskTarget):
        return f"workflow {target.workflow}"
    return (target.type == COMMAND and words_of(masked_object(target.payload))) or f"task {target.type}"


def describe_cron(cron: Cron) -> str:
    """Return when it is due: ``every 15 minutes from 09:00 to 17:59 on Monday to Friday``."""
    at, days = _clock_times(cron), _days(cron)
    said = f"at {at}" if at else _rhythms(cron)
    if days:
        said += f" on {days}"
    elif at:
        said += " every day"
    return said if cron.fields[4] == "*" else f"{said} in {_items(cron.fields[4], _month, 1, 12)}"


def _clock_times(cron: Cron) -> str:
    """Return the times of day if they are few and fixed, else an empty string."""
    times = list(islice(cron.times(), _MOST_TIMES + 1))
    if cron.follows_elapsed_time or not times or len(times) > _MOST_TIMES:
        return ""
    return _and([f"{time:%H:%M:%S}" if time.second else f"{time:%H:%M}" for time in times])


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
    step = _even_step(field, 60)
    if step:
        return f"every {unit}" if step == 1 else f"every {step} {unit}s"
    numbers = _numbers(field, 0, 59)
    if len(numbers) == 60:
        return f"every {unit}"
    return f"at {unit}{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"


def _hours(field: str) -> str:
    step = _even_step(field, 24)
    if step:
        return "of every hour" if step == 1 else f"of every {_nth(step)} hour"
    numbers = _numbers(field, 0, 23)
    if len(numbers) == 24:
        return "of every hour"
    if len(numbers) == numbers[-1] - numbers[0] + 1:
        return f"from {numbers[0]:02}:00 to {numbers[-1]:02}:59"
    return f"of the hours {_listed(numbers)}"


def _even_step(field: str, size: int) -> int:
    """Return the step of ``*/5`` if it divides the hour or day evenly, else 0."""
    step = int(field[2:]) if field.startswith("*/") and field[2:].isdecimal() else 0
    return step if step and size % step == 0 else 0


def _numbers(field: str, low: int, high: int) -> list[int]:
    """Return all numbers of a numeric field, in order."""
    numbers: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        start = low if first == "*" else int(first)
        end = int(last) if last else high if first == "*" or step else start
        numbers.update(range(start, end + 1, int(step or 1)))
    return sorted(numbers)


def _listed(numbers: Sequence[int]) -> str:
    """Return all numbers if they are few; of more numbers with an even step, the first two and the last."""
    steps = {after - before for before, after in pairwise(numbers)}
    if steps == {1} and len(numbers) > 2:
        return f"{numbers[0]} to {numbers[-1]}"
    if len(numbers) > _MOST_TIMES and len(steps) == 1:
        return f"{numbers[0]}, {numbers[1]}, … {numbers[-1]}"
    return _and([str(number) for number in numbers])


def _days(cron: Cron) -> str:
    month, week = cron.fields[3], cron.fields[5]
    in_month = _month_days(month) if month != "*" else ""
    in_week = _items(week, _weekday, 0, 6) if week != "*" else ""
    if in_month and in_week:
        either = not (month.startswith("*") or week.startswith("*"))
        return (
            f"{in_month} or on {in_week}"
            if either
            else f"{in_month}, if it is {' or '.join(in_week.rsplit(' and ', 1))}"
        )
    return in_month or in_week


def _month_days(field: str) -> str:
    if field.upper() == "L":
        return "the last day of the month"
    items = [item for item in field.split(",") if item.upper() != "L"]
    plain = len(items) == len(field.split(","))
    numbers = _numbers(",".join(items), 1, 31) if items else []
    said = _listed(numbers) if plain else _and([*map(str, numbers), "the last"])
    return f"{'day' if len(numbers) == 1 and plain else 'days'} {said} of the month"


def _items(field: str, name: Callable[[str], str], low: int, high: int) -> str:
    """Return a list field in words; ranges become ``a to b``, and a step all its values."""
    said: list[str] = []
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        if step or first == "*":
            start = low if first == "*" else _number_of(first, name)
            end = _number_of(last, name) if last else high
            said += [name(str(number)) for number in range(start, end + 1, int(step or 1))]
        else:
            said.append(f"{name(first)} to {name(last)}" if last else name(first))
    return _and(list(dict.fromkeys(said)))


def _number_of(text: str, name: Callable[[str], str]) -> int:
    return field_number(text, "month" if name is _month else "day of week")


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
