"""Checkpoints: what a handler did and what it waits for, kept from one attempt of its task to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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
    """Which checkpoint of a task. ``branch``: of a gather, ``1.0/`` for the first branch of the first, or the step that
    it is part of, ``NAME#1/``; empty: none.
    """

    branch: str
    name: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.branch}{self.name}" + (f" #{self.occurrence}" if self.occurrence > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A step that was done, or a sleep, signal or called task that is or was waited for.

    ``outcome``: completed, failed, cancelled, timed_out, or removed (the task that it runs after, before its end was
    seen); None while it is open. ``value``: the result of a step or a called task, the payload of a signal, the number
    of attempts of a called task that failed. ``place`` orders the checkpoints of a branch. ``due_at``: end of a sleep
    or of the timeout of a wait. ``fence``: of the last attempt that waited for it.
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


class Suspend(BaseException):
    """Ends an attempt that waits for open checkpoints; the handler runs again when it may go on.

    Not an Exception, so that ``except Exception`` in a handler lets it pass, as it lets a cancellation pass.
    ``needs_all``: only when all of them have ended (or one failed), else when one has.
    """

    def __init__(self, waits: Sequence[Checkpoint], *, needs_all: bool = False) -> None:
        self.waits = tuple(waits)
        self.needs_all = needs_all
        super().__init__()


def together(suspends: Sequence[Suspend]) -> Suspend:
    """One for all that the branches of a handler wait for: it goes on when one of them can."""
    if len(suspends) == 1:
        return suspends[0]
    waits = {wait.key: wait for suspend in suspends for wait in suspend.waits}
    return Suspend(list(waits.values()))


def waits_for(waits: Sequence[Checkpoint]) -> str:
    """What a suspended task waits for, in a few words."""
    first = waits[0]
    text = {
        CheckpointKind.SLEEP: f"sleep {first.key}",
        CheckpointKind.SIGNAL: f"signal {first.key}",
        CheckpointKind.CALL: f"task {first.child_id} ({first.key})",
        CheckpointKind.AFTER: f"task {first.child_id}",
        CheckpointKind.STEP: f"step {first.key}",
    }[first.kind]
    return text if len(waits) == 1 else f"{text} and {len(waits) - 1} more"
