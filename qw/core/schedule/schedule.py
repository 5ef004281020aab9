"""The data type of a schedule: when it is due, what it starts, and how late ticks are handled."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import TypeAlias
from uuid import UUID

from qw.core.schedule.cron import parse_cron
from qw.core.schedule.timing import ByCron, Every, Once, Timing, ticks
from qw.core.schedule.zones import zone
from qw.core.task import NewTask, TaskSettings
from qw.core.task.payload import JsonObject

COMMAND = "command"  # the type of tasks that run a program

FIRES_KEPT = timedelta(days=35)  # how long the results of ticks are kept
BACKFILL_REACH = timedelta(days=31)  # shorter than FIRES_KEPT, so that a backfill cannot repeat a tick
MAX_CAP = 500
MAX_JITTER = timedelta(days=1)
MIN_EVERY = timedelta(seconds=1)

_MICROSECOND = timedelta(microseconds=1)


class Misfire(StrEnum):
    """What happens to ticks that were not fired in time."""

    SKIP = "skip"
    ONCE = "once"  # one task for all missed ticks
    ALL = "all"


class Overlap(StrEnum):
    """What happens to a tick while the task or run of an earlier tick is not final."""

    ALLOW = "allow"
    SKIP = "skip"  # skip this tick
    CANCEL = "cancel"  # cancel the earlier task or run


@dataclass(frozen=True, kw_only=True)
class TaskTarget(TaskSettings):
    """The task to enqueue."""

    type: str
    payload: JsonObject = field(default_factory=dict)

    def task(self, id: UUID, headers: dict[str, str] | None = None) -> NewTask:
        return NewTask(id=id, headers=headers, **vars(self))

    @property
    def is_program(self) -> bool:
        """Whether the schedule itself defines the program to run, which only an operator may do."""
        return self.type == COMMAND and not self.payload.keys().isdisjoint(("run", "argv"))


@dataclass(frozen=True, kw_only=True)
class WorkflowTarget:
    """The workflow to start, in its newest version at the time of the tick."""

    workflow: str
    input: JsonObject = field(default_factory=dict)


Target: TypeAlias = TaskTarget | WorkflowTarget


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The settings of a schedule; exactly one of ``cron``, ``every`` and ``at`` is set. Checks: `parse_schedule`.

    ``window`` None: ticks fire however late. ``cap``: the most late ticks that fire if ``misfire`` is all. ``start``
    and ``end``: the first and last possible ticks. ``filed_under``: the workflow under which its tasks and runs are
    shown.
    """

    name: str
    target: Target
    cron: str | None = None
    seconds: bool = False
    every: timedelta | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    misfire: Misfire = Misfire.ONCE
    window: timedelta | None = timedelta(hours=1)
    cap: int = 100
    overlap: Overlap = Overlap.ALLOW
    jitter: timedelta = timedelta(0)
    start: datetime | None = None
    end: datetime | None = None
    paused: bool = False
    description: str = ""
    filed_under: UUID | None = None


def timing(schedule: Schedule, created_at: datetime) -> Timing:
    """Return the timing of *schedule*. Raise Invalid if this version cannot read its expression or zone."""
    if schedule.cron is not None:
        return ByCron(cron=parse_cron(schedule.cron, seconds=schedule.seconds), zone=zone(schedule.timezone))
    if schedule.every is not None:
        return Every(interval=schedule.every, anchor=schedule.start or created_at.replace(microsecond=0))
    assert schedule.at is not None
    return Once(at=schedule.at)


def ticks_of(schedule: Schedule, created_at: datetime, after: datetime) -> Iterator[datetime]:
    """Return the ticks of *schedule* after a time, between its start and its end."""
    if schedule.start is not None:
        after = max(after, schedule.start - _MICROSECOND)
    following = ticks(timing(schedule, created_at), after)
    end = schedule.end
    return following if end is None else takewhile(lambda tick: tick <= end, following)


def due_at(id: UUID, tick: datetime, jitter: timedelta) -> datetime:
    """Return when *tick* is due: up to *jitter* later, always the same delay, and never before an earlier tick.

    Delays are random at times that are *jitter* apart, and interpolated linearly between them. The delay never falls
    faster than time passes, so ticks keep their order even if they are closer together than *jitter*.
    """
    if not jitter:
        return tick
    place = tick.timestamp() / jitter.total_seconds() + _chance(id, "phase")
    first = math.floor(place)
    before, after = _chance(id, first), _chance(id, first + 1)
    return tick + jitter * (before + (after - before) * (place - first))


def _chance(id: UUID, of: object) -> float:
    """Return a number from 0 to 1 that depends on the arguments only."""
    digest = hashlib.blake2b(f"{id} {of}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
