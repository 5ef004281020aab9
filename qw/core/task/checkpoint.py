"""Checkpoints: the steps that a handler completed and what it waits for, kept between the attempts of its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from qw.core.task.payload import Json


class CheckpointKind(StrEnum):
    STEP = "step"
    SLEEP = "sleep"
    SIGNAL = "signal"
    CALL = "call"
    AFTER = "after"


class CheckpointKey(NamedTuple):
    """The key of a checkpoint within its task. ``branch``: a gather branch (``1.0/``: the first branch of the first
    gather) or the enclosing step (``NAME#1/``); empty: neither.
    """

    branch: str
    name: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.branch}{self.name}" + (f" #{self.occurrence}" if self.occurrence > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A completed step; or a sleep, a signal, a called task or a task to run after that is or was waited for.

    ``outcome``: completed, failed, cancelled, timed_out, or removed (a task to run after that was removed before its
    status was read); None while open. ``value``: the result of a step or called task, the payload of a signal, or the
    number of attempts of a called task that failed. ``place`` orders the checkpoints of a branch. ``due_at``: end of a
    sleep, or timeout of a wait. ``fence``: that of the last attempt that waited for it.
    """

    task_id: UUID
    branch: str
    name: str
    occurrence: int
    kind: CheckpointKind
    place: float
    fence: int | None
    due_at: datetime | None
    child_id: UUID | None
    outcome: str | None
    value: Json
    error: str | None
    at: datetime
    ended_at: datetime | None

    @property
    def key(self) -> CheckpointKey:
        return CheckpointKey(self.branch, self.name, self.occurrence)

    @property
    def is_open(self) -> bool:
        return self.outcome is None


@dataclass(frozen=True, kw_only=True)
class NewWait:
    """A sleep or a wait for a signal that is stored with the end of its attempt. ``delay``: its length or timeout."""

    key: CheckpointKey
    kind: CheckpointKind
    place: float
    delay: timedelta | None
    child_id: None = None


class Suspend(BaseException):
    """Raised to end an attempt that waits, after which the handler runs again.

    Derived from BaseException, so that ``except Exception`` in a handler does not catch it, like a cancellation.
    ``needs_all``: wait until all checkpoints have ended (or one failed), else until one has. ``new``: the wait that
    begins with the end of the attempt, instead of *waits*.
    """

    def __init__(
        self, waits: Sequence[Checkpoint] = (), *, needs_all: bool = False, new: NewWait | None = None
    ) -> None:
        self.waits = tuple(waits)
        self.needs_all = needs_all
        self.new = new
        super().__init__()

    @property
    def first(self) -> Checkpoint | NewWait:
        return self.new or self.waits[0]


def together(suspends: Sequence[Suspend]) -> Suspend:
    """Merge the waits of all branches of a handler: it runs again as soon as one branch can continue."""
    if len(suspends) == 1:
        return suspends[0]
    waits = {wait.key: wait for suspend in suspends for wait in suspend.waits}
    return Suspend(list(waits.values()))


def waits_for(waits: Sequence[Checkpoint | NewWait]) -> str:
    """Describe in a few words what a suspended task waits for."""
    first = waits[0]
    text = {
        CheckpointKind.SLEEP: f"sleep {first.key}",
        CheckpointKind.SIGNAL: f"signal {first.key}",
        CheckpointKind.CALL: f"task {first.child_id} ({first.key})",
        CheckpointKind.AFTER: f"task {first.child_id}",
        CheckpointKind.STEP: f"step {first.key}",
    }[first.kind]
    return text if len(waits) == 1 else f"{text} and {len(waits) - 1} more"
