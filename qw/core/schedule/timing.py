"""When a schedule is due: by cron expression, at an interval, or once. Ticks are UTC times in ascending order.

The time zone rules for cron expressions, which the manual repeats:

- Hour and minute both fixed (neither begins with ``*``): the tick is at that local time. A time that does not exist
  because clocks are set forward fires at the first instant after the gap; a time that occurs twice fires the first
  time.
- Minute or hour begins with ``*``: elapsed time. Every instant with a matching local time is a tick, so
  ``*/15 * * * *`` and ``0 * * * *`` continue evenly through both clock changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

from qw.core.schedule import zones
from qw.core.schedule.cron import Cron


@dataclass(frozen=True, kw_only=True)
class ByCron:
    cron: Cron
    zone: tzinfo = UTC


@dataclass(frozen=True, kw_only=True)
class Every:
    """``anchor``, and every whole number of intervals after it."""

    interval: timedelta
    anchor: datetime


@dataclass(frozen=True, kw_only=True)
class Once:
    at: datetime


Timing: TypeAlias = ByCron | Every | Once


def ticks(timing: Timing, after: datetime) -> Iterator[datetime]:
    """Yield the ticks after a time, in order; without end, unless the schedule has a last one."""
    match timing:
        case Once(at=at):
            if at > after:
                yield at
        case Every(interval=interval, anchor=anchor):
            tick = anchor + max((after - anchor) // interval + 1, 0) * interval
            while True:
                yield tick
                tick += interval
        case ByCron(cron=cron, zone=zone):
            following = _after_elapsed if zone is UTC or cron.follows_elapsed_time else _after_on_the_wall
            instant = following(cron, zone, after.astimezone(UTC))
            while instant is not None:
                yield instant
                instant = following(cron, zone, instant)


def _after_on_the_wall(cron: Cron, zone: tzinfo, after: datetime) -> datetime | None:
    """Return the first tick of fixed times. Times in a gap share one instant; a repeated time counts once."""
    wall = zones.wall(after, zone)
    if zones.is_second_time(after, zone):
        wall = zones.end_of_repeated(after, zone) - zones.SECOND
    while (match := cron.after(wall)) is not None:
        tick = zones.instant(match, zone)
        if tick > after:
            return tick
        wall = match
    return None


def _after_elapsed(cron: Cron, zone: tzinfo, after: datetime) -> datetime | None:
    """Search the periods between clock changes one by one: within each, the offset is constant."""
    stretch, offset = after, zones.offset(after.astimezone(zone))
    wall = (after + offset).replace(tzinfo=None)
    while (match := cron.after(wall)) is not None:
        tick = (match - offset).replace(tzinfo=UTC)
        change = zones.first_change(zone, stretch, tick)
        if change is None:
            return tick
        stretch, offset = change, zones.offset(change.astimezone(zone))
        wall = (change + offset).replace(tzinfo=None) - zones.SECOND
    return None


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick for display: in UTC, in local time, and a note if a clock change affects it."""

    at: datetime
    local: datetime
    note: str = ""


def shown(timing: Timing, at: datetime) -> Tick:
    zone = timing.zone if isinstance(timing, ByCron) else UTC
    return Tick(at=at, local=at.astimezone(zone), note=_note(timing, at))


def _note(timing: Timing, at: datetime) -> str:
    if not isinstance(timing, ByCron):
        return ""
    local = at.astimezone(timing.zone)
    if not timing.cron.matches(zones.wall(at, timing.zone)):
        return "this local time does not exist: first instant after the gap"
    if local.fold:
        return "second occurrence of this local time"
    if local.replace(fold=1).utcoffset() != local.utcoffset():
        return "this local time occurs twice: first occurrence"
    return ""
