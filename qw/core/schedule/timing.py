"""When a schedule is due: by cron expression, at an interval, or once. Ticks are UTC instants and only rise.

The zone rules for cron expressions, which the manual repeats for people:

- Hour and minute both fixed (neither begins with ``*``): the time is what the clock on the wall shows. A time that
  clocks skip when they go forward fires at the first instant after the gap; one that they show twice, the first time.
- Minute or hour begins with ``*``: elapsed time. Every instant at which the clock shows a matching time is a tick,
  so that ``*/15 * * * *`` and ``0 * * * *`` go on evenly through both changes.
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
    """``anchor`` and every whole number of intervals after it."""

    interval: timedelta
    anchor: datetime


@dataclass(frozen=True, kw_only=True)
class Once:
    at: datetime


Timing: TypeAlias = ByCron | Every | Once


def ticks(timing: Timing, after: datetime) -> Iterator[datetime]:
    """The ticks after an instant, in order; endless, unless the schedule has a last one."""
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
    """The first tick of fixed times. Those in a gap share one instant; those of a repeated hour came the first time."""
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
    """Walks stretches in which clocks do not change: in each, local time is plain."""
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
    """A tick for people: in UTC, as clocks show it, and what a clock change does to it, if anything."""

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
        return "its time does not exist: the first instant after the gap"
    if local.fold:
        return "the second time that clocks show this"
    if local.replace(fold=1).utcoffset() != local.utcoffset():
        return "clocks show this twice: the first time"
    return ""
