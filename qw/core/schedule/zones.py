"""Time zones, and conversion of local times around clock changes.

The time zone data comes from the system or the tzdata package.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from qw.core.errors import Fault, Invalid, guess

SECOND = timedelta(seconds=1)
_STRIDE = timedelta(days=7)  # no zone changes twice within it


@lru_cache(maxsize=1024)
def zone(name: str, *, path: str = "timezone") -> tzinfo:
    """Return the time zone *name*, such as Europe/Berlin. Raise Invalid with *path* if it is unknown."""
    if name in ("UTC", "Etc/UTC"):
        return UTC  # needs no time zone data, and is six times as fast
    try:
        return zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        hint = guess(name[:60], zoneinfo.available_timezones())
        message = f"{name[:60]!r} is not a time zone such as Europe/Berlin or UTC{hint}"
        raise Invalid(Fault(path=path, message=message)) from None


def wall(instant: datetime, zone: tzinfo) -> datetime:
    """Return the local time in *zone* at *instant*, as a naive datetime."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def is_second_time(instant: datetime, zone: tzinfo) -> bool:
    """Whether *instant* has a local time that occurred before, because clocks were set back."""
    return instant.astimezone(zone).fold == 1


def instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return the first instant with the local time *wall* in *zone*; if it does not exist, the end of the gap."""
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return first
    # *wall* is in a gap: with the offset before the gap it is after the change, with the other offset before it.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return first_change(zone, before, first) or first


def end_of_repeated(instant: datetime, zone: tzinfo) -> datetime:
    """Return the end of the repeated local times: the first that did not occur before. *instant* must be in them."""
    local = instant.astimezone(zone)
    old = offset(local.replace(fold=0))
    low = instant - (old - offset(local)) - SECOND
    change = first_change(zone, low, instant) or instant
    return (change + old).replace(tzinfo=None)


def first_change(zone: tzinfo, low: datetime, high: datetime) -> datetime | None:
    """Return the first whole second after *low*, up to *high*, with another UTC offset than *low*."""
    before = offset(low.astimezone(zone))
    while low < high:
        step = min(low + _STRIDE, high)
        if offset(step.astimezone(zone)) != before:
            return _bisect(zone, low, step, before)
        low = step
    return None


def _bisect(zone: tzinfo, low: datetime, high: datetime, before: timedelta) -> datetime:
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    while high - low > SECOND:
        middle = low + (high - low) // (2 * SECOND) * SECOND
        if offset(middle.astimezone(zone)) == before:
            low = middle
        else:
            high = middle
    return high


def offset(local: datetime) -> timedelta:
    """Return the UTC offset of an aware time."""
    return local.utcoffset() or timedelta(0)
