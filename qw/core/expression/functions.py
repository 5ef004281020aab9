"""The functions of expressions. Each takes linear time, and returns at most MAX_SIZE characters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from qw.core.duration import parse_duration
from qw.core.errors import Invalid
from qw.core.expression.pattern import search
from qw.core.task.payload import MAX_DEPTH, Json, JsonObject

MAX_SIZE = 1024 * 1024  # characters
MAX_RANGE = 10_000  # numbers; also the most items of a foreach

_PLACE = re.compile(r"\{\{|\}\}|\{(\d{1,2})\}")


def string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def fromjson(text: str) -> Json:
    value: Json = json.loads(string(text))
    if _depth(value) > MAX_DEPTH:
        raise ValueError
    return value


def _depth(value: Json) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
    return depth


def tojson(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def replace(text: str, old: str, new: str) -> str:
    if not string(old):
        raise ValueError
    if len(string(text)) + text.count(old) * len(string(new)) > MAX_SIZE:
        raise OverflowError
    return text.replace(old, new)


def split(text: str, separator: str) -> list[str]:
    return string(text).split(string(separator))


def slice_of(value: Any, start: int, end: int | None = None) -> Any:
    if not isinstance(value, (str, list)) or isinstance(start, bool) or isinstance(end, bool):
        raise TypeError
    return value[start:end]


def unique(items: list[Json]) -> list[Json]:
    """Return the items without later duplicates, in order; true is not equal to 1."""
    return list({tojson_sorted(item): item for item in reversed(listed(items))}.values())[::-1]


def tojson_sorted(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sort_key(value: Json) -> tuple[int, Any]:
    """Order null, false, true, numbers, strings; other values cannot be sorted."""
    match value:
        case None:
            return 0, 0
        case bool():
            return 1, value
        case int() | float():
            return 2, value
        case str():
            return 3, value
    raise TypeError


def format_text(template: str, *values: Json) -> str:
    """Replace ``{0}`` by the first value, and so on; ``{{`` and ``}}`` are braces."""
    texts = [value if isinstance(value, str) else "" if value is None else tojson(value) for value in values]

    def piece(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        return texts[int(match[1])]

    total = sum(
        len(texts[int(place)]) for place in _PLACE.findall(string(template)) if place and int(place) < len(texts)
    )
    if len(template) + total > MAX_SIZE:
        raise OverflowError
    try:
        return _PLACE.sub(piece, template)
    except IndexError:
        raise ValueError from None


def moment(value: str) -> datetime:
    """Parse an ISO 8601 date or time; UTC if it has no zone."""
    text = string(value)
    if len(text) > 40:
        raise ValueError
    at = (
        datetime.combine(date.fromisoformat(text), datetime.min.time())
        if len(text) == 10
        else datetime.fromisoformat(text)
    )
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def date_of(value: str, form: str | None = None) -> str:
    at = moment(value)
    if form is None:
        return iso(at)
    if len(string(form)) > 200:
        raise ValueError
    return at.strftime(form)


def dateadd(value: str, by: str) -> str:
    text = string(by).strip()
    sign = -1 if text.startswith("-") else 1
    try:
        return iso(moment(value) + sign * parse_duration(text.lstrip("+-")))
    except Invalid:
        raise ValueError from None


def datediff(later: str, earlier: str) -> float:
    seconds = (moment(later) - moment(earlier)) / timedelta(seconds=1)
    return int(seconds) if seconds == int(seconds) else seconds


def range_of(*ends: int) -> list[int]:
    """``range(end)`` or ``range(start, end)``: the integers from start (default 0) up to, but not including, end."""
    if any(not isinstance(end, int) or isinstance(end, bool) for end in ends):
        raise TypeError
    numbers = range(*ends)
    if len(numbers) > MAX_RANGE:
        raise ValueError(f"more than {MAX_RANGE:,} numbers")
    return list(numbers)


def flatten(lists: list[Json]) -> list[Json]:
    """Return the items of the lists as one list; items that are not lists are kept."""
    return [item for element in listed(lists) for item in (element if isinstance(element, list) else [element])]


def items(value: JsonObject) -> list[Json]:
    return [{"key": key, "value": member} for key, member in value.items()]


def matches(text: str, pattern: str) -> bool:
    return search(string(pattern), string(text))


# By name: minimum and maximum number of arguments, and the function. The others are in `qw.core.expression.evaluation`.
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "date": (1, 2, date_of),
    "dateadd": (2, 2, dateadd),
    "datediff": (2, 2, datediff),
    "flatten": (1, 1, flatten),
    "format": (1, 20, format_text),
    "fromjson": (1, 1, fromjson),
    "items": (1, 1, items),
    "match": (2, 2, matches),
    "range": (1, 2, range_of),
    "replace": (3, 3, replace),
    "slice": (2, 3, slice_of),
    "split": (2, 2, split),
    "tojson": (1, 1, tojson),
    "trim": (1, 1, lambda value: string(value).strip()),
    "unique": (1, 1, unique),
    "values": (1, 1, lambda value: list(value.values())),
}
