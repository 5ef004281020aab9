"""Durations as users write them: ``500ms``, ``10s``, ``5m``, ``2h``, ``1d``, ``1h30m``, ``PT5M``, or seconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from qw.core.errors import Invalid

MAX_DURATION = timedelta(days=36_500)

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SHORT = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
_ISO = re.compile(
    r"P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,6})?)S)?)?", re.ASCII
)


def parse_duration(value: object) -> timedelta:
    """Parse *value*, text or a number of seconds. Raise Invalid if it is not a duration or is negative."""
    seconds = _seconds(value)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise Invalid(f"{str(value)[:60]!r} is not a duration such as 30s, 5m, 2h or 1d")
    if seconds > MAX_DURATION.total_seconds():
        raise Invalid(f"{str(value)[:60]!r} is longer than 100 years")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that `parse_duration` parses to the same duration: ``1h30m``, ``2.5s``."""
    millis = round(duration.total_seconds() * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    if millis or not parts:
        parts.append(f"{millis}ms" if 0 < millis < 1000 and not parts else f"{millis / 1000:g}s")
    return "".join(parts)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, str) or len(value) > 60:
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if text and _SHORT.sub("", text) == "":
        return sum(float(count) * _SECONDS[unit] for count, unit in _SHORT.findall(text))
    if (iso := _ISO.fullmatch(text.upper())) and any(iso.groups()) and not text.upper().endswith("T"):
        return sum(float(n) * s for n, s in zip(iso.groups(), (604_800, 86_400, 3600, 60, 1), strict=True) if n)
    return None
