"""Time zones, and what a clock on the wall means in them when it is put forward or back.

The zone tables come with the system or with the tzdata package; nothing else is read.
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
    """The zone called *name*, such as Europe/Berlin. Raise Invalid naming *path*."""
    if name in ("UTC", "Etc/UTC"):
        return UTC  # known without any table, and six times as fast
    try:
        return zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        hint = guess(name[:60], zoneinfo.available_timezones())
        message = f"{name[:60]!r} is not a time zone such as Europe/Berlin or UTC{hint}"
        raise Invalid(Fault(path=path, message=message)) from None


def wall(instant: datetime, zone: tzinfo) -> datetime:
    """What clocks in *zone* show at *instant*: without a zone of its own."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def is_second_time(instant: datetime, zone: tzinfo) -> bool:
    """Clocks were put back and show what they have shown before."""
    return instant.astimezone(zone).fold == 1


def instant(wall: datetime, zone: tzinfo) -> datetime:
    """The first instant at which clocks in *zone* show *wall*; if they never do, the first after the gap."""
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return first
    # Read with the offset from before the gap it lies behind the change, with the one from after it, before.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return first_change(zone, before, first) or first


def end_of_repeated(instant: datetime, zone: tzinfo) -> datetime:
    """For an instant at which clocks show a time again: the first wall time that they will not have shown before."""
    local = instant.astimezone(zone)
    old = offset(local.replace(fold=0))
    low = instant - (old - offset(local)) - SECOND
    change = first_change(zone, low, instant) or instant
    return (change + old).replace(tzinfo=None)


def first_change(zone: tzinfo, low: datetime, high: datetime) -> datetime | None:
    """The first whole second after *low*, at most *high*, at which clocks have another offset than at *low*."""
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
    """How far the clocks of an aware time are ahead of UTC."""
    return local.utcoffset() or timedelta(0)
