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

COMMAND = "command"  # the type of a task that is a program

FIRES_KEPT = timedelta(days=35)  # how long what happened at a tick is known
BACKFILL_REACH = timedelta(days=31)  # shorter, so that no backfill can repeat a tick that was forgotten
MAX_CAP = 500
MAX_JITTER = timedelta(days=1)
MIN_EVERY = timedelta(seconds=1)

_MICROSECOND = timedelta(microseconds=1)


class Misfire(StrEnum):
    """What happens to ticks that could not be fired in time."""

    SKIP = "skip"
    ONCE = "once"  # one task for all that were missed
    ALL = "all"


class Overlap(StrEnum):
    """What a tick does while the task or run of an earlier one is not final."""

    ALLOW = "allow"
    SKIP = "skip"  # this tick
    CANCEL = "cancel"  # the earlier one


@dataclass(frozen=True, kw_only=True)
class TaskTarget(TaskSettings):
    """A task to make."""

    type: str
    payload: JsonObject = field(default_factory=dict)

    def task(self, id: UUID, headers: dict[str, str] | None = None) -> NewTask:
        return NewTask(id=id, headers=headers, **vars(self))

    @property
    def is_program(self) -> bool:
        """The schedule itself says which program runs: only an operator may store that."""
        return self.type == COMMAND and not self.payload.keys().isdisjoint(("run", "argv"))


@dataclass(frozen=True, kw_only=True)
class WorkflowTarget:
    """A workflow to start, in its newest version at that time."""

    workflow: str
    input: JsonObject = field(default_factory=dict)


Target: TypeAlias = TaskTarget | WorkflowTarget


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule as asked for: exactly one of ``cron``, ``every`` and ``at``; see `parse_schedule` for the checks.

    ``window`` None: however late. ``cap`` is the most tasks that ``misfire`` all catches up on. ``start`` and ``end``
    are the first and last instants that may be ticks. What it makes is shown under the workflow ``filed_under``.
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
    """When *schedule* is due. Raise Invalid when its expression or zone cannot be read (any more)."""
    if schedule.cron is not None:
        return ByCron(cron=parse_cron(schedule.cron, seconds=schedule.seconds), zone=zone(schedule.timezone))
    if schedule.every is not None:
        return Every(interval=schedule.every, anchor=schedule.start or created_at.replace(microsecond=0))
    assert schedule.at is not None
    return Once(at=schedule.at)


def ticks_of(schedule: Schedule, created_at: datetime, after: datetime) -> Iterator[datetime]:
    """The ticks of *schedule* after an instant, between its start and its end."""
    if schedule.start is not None:
        after = max(after, schedule.start - _MICROSECOND)
    following = ticks(timing(schedule, created_at), after)
    end = schedule.end
    return following if end is None else takewhile(lambda tick: tick <= end, following)


def due_at(id: UUID, tick: datetime, jitter: timedelta) -> datetime:
    """When *tick* is acted on: up to *jitter* later, the same for whoever asks, and never before an earlier tick.

    The delays are random at instants that are *jitter* apart, and between them on the line from one to the next. No
    line falls by more than what passes, so that the order stays where ticks come closer than the jitter is long.
    """
    if not jitter:
        return tick
    place = tick.timestamp() / jitter.total_seconds() + _chance(id, "phase")
    first = math.floor(place)
    before, after = _chance(id, first), _chance(id, first + 1)
    return tick + jitter * (before + (after - before) * (place - first))


def _chance(id: UUID, of: object) -> float:
    """From 0 to 1, always the same."""
    digest = hashlib.blake2b(f"{id} {of}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
