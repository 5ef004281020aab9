"""Data types of a workflow run: the state of the run and its steps, and the actions decided by `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeAlias
from uuid import UUID

from qw.core.task import Backoff, TaskSettings
from qw.core.task.error_kind import EXPRESSION
from qw.core.task.payload import Json, JsonObject

COMPENSATION = "compensation"  # the type whose steps count as undoing, where ``on_failure`` has one

# Details of a run that goes on. From each there is no way to another, but from FAILING to COMPENSATING.
QUEUED = "queued"  # it waits for a run with the same key
CANCELLING = "cancelling"  # it was cancelled, and something has not stopped yet
FAILING = "failing"  # it failed, and nothing is undone yet
COMPENSATING = "compensating"  # it goes back
FINISHING = "finishing"  # all its steps ended well, ``finally`` is at work

COMPENSATION_PREFIX = "compensate:"  # of the ids of steps that undo others

COMPENSATED, COMPENSATION_FAILED = "compensated", "compensation_failed"  # details of a failed run
UNDONE_FROM_ABOVE = "undone: the run that started it goes back"  # error of a run
SKIPPED = "skipped"  # detail of a run that was cancelled because of another with the same key


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


class StepStatus(StrEnum):
    PENDING = "pending"  # the same as having no row
    RUNNING = "running"  # its task is not final; or it sleeps or waits
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (StepStatus.PENDING, StepStatus.RUNNING)

    @property
    def is_bad(self) -> bool:
        return self in (StepStatus.FAILED, StepStatus.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A signal sent to a run that no step has consumed yet."""

    id: int
    name: str
    payload: Json = None
    sent_by: str | None = None
    sent_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A start of a workflow. ``detail`` and ``error`` are what `Mark` and `Finish` stored last.

    ``ahead`` counts the runs with the same key that go on or are before it in the queue. ``undo_asked``: the run that
    this one is a step of goes back.
    """

    id: UUID
    input: JsonObject
    status: RunStatus = RunStatus.RUNNING
    detail: str | None = None
    error: str | None = None
    cancel_asked: bool = False
    undo_asked: bool = False
    deadline: datetime | None = None
    ahead: int = 0
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How a foreach stands. ``started`` includes those that ended."""

    total: int
    started: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def running(self) -> int:
        return self.started - self.completed - self.failed


class StepState(NamedTuple):
    """How a step stands. ``finished`` rises with each step that ends in the run; ``result`` is that of its task.

    ``due`` is when a sleep or a wait is over; ``child`` the run that the step started. While a foreach runs, ``error``
    is that of the first item that failed. Of a repeat, ``rounds`` have begun since ``since``; ``is_answered``: the last
    of them has ended, and the next begins when it is ``due``, once that is decided. The same of the tries of a workflow
    that is retried, the last of which failed with ``error``.

    A tuple for speed: each pass over a run makes one of each step; a frozen dataclass takes three to six times as long.
    """

    step_id: str
    status: StepStatus
    task_id: UUID | None = None
    result: Json = None
    error: str | None = None
    error_kind: str | None = None
    finished: int = 0
    cancel_asked: bool = False
    due: datetime | None = None
    child: UUID | None = None
    items: Counts | None = None
    rounds: int = 0
    is_answered: bool = False
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Start(TaskSettings):
    """Make the step's task. ``compensates`` is the task that this one undoes, if any: its parent."""

    step_id: str
    type: str
    payload: JsonObject
    backoff: Backoff | None = None
    compensates: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class StartRun:
    """Start a run of another workflow as this step; of a repeat, as its ``round``; of a retry, as its next try.

    ``timeout``: how long it may take, if the workflow allows no less.
    """

    step_id: str
    workflow: str
    input: JsonObject
    round: int | None = None
    timeout: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class UndoRun:
    """Let a run that is over undo what it did, as the step that compensates the one that started it."""

    step_id: str
    child: UUID


@dataclass(frozen=True, kw_only=True)
class UndoRuns:
    """The same for the runs that the items of a foreach started: one at a time, the one that ended last first."""

    step_id: str
    of: str


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The step sleeps, or waits for a signal, until ``until``; None: as long as it takes.

    ``shown`` stands in the place of its result meanwhile: what somebody is asked.
    """

    step_id: str
    until: datetime | None
    shown: Json = None


@dataclass(frozen=True, kw_only=True)
class Pause:
    """The next round of a repeat, or the next try of a workflow, begins at ``until``."""

    step_id: str
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Again:
    """Run the task of a repeat once more: its ``round``. What it came to before stays with its attempts."""

    step_id: str
    task_id: UUID
    round: int


@dataclass(frozen=True, kw_only=True)
class Accept:
    """The result of the last round of a repeat is that of the step."""

    step_id: str


@dataclass(frozen=True, kw_only=True)
class Expand:
    """The foreach begins over these items. None of them is started yet."""

    step_id: str
    items: list[Json]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Make tasks or runs of the next ``count`` items of a foreach. ``more``: others follow once these are made."""

    step_id: str
    count: int
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class Gather:
    """No item of the foreach runs any more: put the results of all together, in order, and end the step."""

    step_id: str
    status: StepStatus
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class End:
    """A step without a task ended. ``signals`` are those that it waited for."""

    step_id: str
    status: StepStatus
    result: Json = None
    error: str | None = None
    error_kind: str | None = None
    signals: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Skip:
    step_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fail:
    """The step failed before it had a task: an expression has no value over what there is."""

    step_id: str
    error: str
    error_kind: str = EXPRESSION


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Request a stop of what the step started: its task, run or items. ``reason`` is passed to tasks."""

    step_id: str
    reason: str
    task_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Hold:
    """The run waits for others with the same key; the oldest ``cancel`` of those are asked to stop."""

    cancel: int = 0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The run goes on as ``detail``; ``error`` is known by now."""

    detail: str
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The run is final. ``output``: the workflow's outputs, or the results of the steps that no other step needs."""

    status: RunStatus
    detail: str | None = None
    error: str | None = None
    output: Json = None


StepAction: TypeAlias = (
    Start
    | StartRun
    | UndoRun
    | UndoRuns
    | Wait
    | Pause
    | Again
    | Accept
    | Expand
    | Launch
    | Gather
    | End
    | Skip
    | Fail
    | Cancel
)
Action: TypeAlias = StepAction | Hold | Mark | Finish


def compensation_id(step_id: str) -> str:
    """The id of the step that undoes *step_id*; the colon keeps it apart from the ids in definitions."""
    return f"{COMPENSATION_PREFIX}{step_id}"


# kept with the signals: who asked for that, and when
RETRY_TOLD, CANCEL_TOLD, DONE_BY_HAND_TOLD = "run:retry", "run:cancel", "run:compensation-done"


def approval_name(step_id: str) -> str:
    """The name of the signal that decides an approval; the colon keeps it apart from the names people choose."""
    return f"approval:{step_id}"
