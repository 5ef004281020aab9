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

COMPENSATION = "compensation"  # steps of this type under ``on_failure`` count as compensations

# Details of an active run. Once it has left the queue, the only possible change is from FAILING to COMPENSATING.
QUEUED = "queued"  # waits for runs with the same key
CANCELLING = "cancelling"  # cancelled, but not everything has stopped yet
FAILING = "failing"  # failed, but nothing is undone yet
COMPENSATING = "compensating"  # goes back: compensations run
FINISHING = "finishing"  # all steps ended well; ``finally`` runs

COMPENSATION_PREFIX = "compensate:"  # prefix of the ids of compensations

COMPENSATED, COMPENSATION_FAILED = "compensated", "compensation_failed"  # details of a failed run
UNDONE_FROM_ABOVE = "undone: the run that started it goes back"  # error of a run
SKIPPED = "skipped"  # detail of a run that was cancelled because of other runs with the same key


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
    PENDING = "pending"  # same as no row
    RUNNING = "running"  # its task is not final, or it sleeps or waits
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
    """One execution of a workflow. ``detail``, ``error`` and its kind were stored by the last `Mark` or `Finish`.

    ``ahead`` counts the runs with the same key that are active or earlier in the queue. ``undo_asked``: the parent
    run, which started this run as a step, is going back.
    """

    id: UUID
    input: JsonObject
    status: RunStatus = RunStatus.RUNNING
    detail: str | None = None
    error: str | None = None
    error_kind: str | None = None
    cancel_asked: bool = False
    undo_asked: bool = False
    deadline: datetime | None = None
    output: Json = None
    ahead: int = 0
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The item counts of a foreach. ``started`` includes ended items."""

    total: int
    started: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        return self.completed + self.failed

    @property
    def running(self) -> int:
        return self.started - self.ended


class StepState(NamedTuple):
    """A step of a run: the row, and the state of its task or of the run that it started (``child_id``).

    ``finished`` is the place in the order in which steps ended, 0 if it has not. ``due_at``: end of a sleep or wait.
    ``result`` and ``error`` are those of its task; while a foreach runs, ``error`` is that of the first failed item.
    ``task_…`` are fields of the final task or run; None until that is final.

    In a repeat, ``rounds`` have begun since ``started_at``. ``is_answered``: the last round has ended, and once the
    next one is decided, it begins at ``due_at``. A retried workflow counts its tries in the same way; the last one
    failed with ``error``.

    A tuple for speed: each pass over a run makes one per step; a frozen dataclass takes three to six times as long.
    """

    step_id: str
    status: StepStatus
    type: str = ""
    task_id: UUID | None = None
    child_id: UUID | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    finished: int = 0
    due_at: datetime | None = None
    cancel_asked: bool = False
    rounds: int = 0
    error: str | None = None
    error_kind: str | None = None
    result: Json = None
    task_status: str | None = None
    task_finished_at: datetime | None = None
    task_fence: int | None = None
    items: Counts | None = None
    is_answered: bool = False


@dataclass(frozen=True, kw_only=True)
class Start(TaskSettings):
    """Create the step's task. ``compensates``: the task that it undoes, which becomes its parent.

    ``round``: the number of a repeat's round.
    """

    step_id: str
    type: str
    payload: JsonObject
    round: int | None = None
    backoff: Backoff | None = None
    compensates: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class StartRun:
    """Start a run of another workflow as this step. ``round``: the number of a repeat's round or of a retry's try.

    ``timeout``: maximum duration, unless the workflow sets a shorter one.
    """

    step_id: str
    workflow: str
    input: JsonObject
    round: int | None = None
    timeout: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class UndoRun:
    """Let a final run undo its work, as the compensation of the step that started it."""

    step_id: str
    child: UUID


@dataclass(frozen=True, kw_only=True)
class UndoRuns:
    """Like `UndoRun`, for all runs started by a foreach or repeat: one at a time, the last ended first."""

    step_id: str
    of: str


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The step sleeps, or waits for a signal, until ``until``; None: without limit.

    ``shown``: displayed as its result meanwhile, such as the question of an approval.
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
    """Run the task of a repeat again, as its ``round``. The previous result is kept with its attempts."""

    step_id: str
    task_id: UUID
    round: int


@dataclass(frozen=True, kw_only=True)
class Accept:
    """End a repeat: the result of its last round becomes that of the step."""

    step_id: str


@dataclass(frozen=True, kw_only=True)
class Expand:
    """Begin a foreach over these items, none of which is started yet."""

    step_id: str
    items: list[Json]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Create tasks or runs for the next ``count`` items of a foreach. ``more``: others can start right after."""

    step_id: str
    count: int
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class Gather:
    """No item of the foreach is running: collect the results in order, and end the step."""

    step_id: str
    status: StepStatus
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class End:
    """A step ended without the end of a task. ``signals``: ids of the signals that it consumed."""

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
    """The step failed before it had a task, because an expression could not be evaluated or its value is invalid."""

    step_id: str
    error: str
    error_kind: str = EXPRESSION


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Ask the task, run or items of the step to stop. ``reason`` is passed to tasks."""

    step_id: str
    reason: str
    task_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Hold:
    """The run waits for others with the same key; the oldest ``cancel`` of them are asked to stop."""

    cancel: int = 0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The run continues with this ``detail``, and the ``error`` known so far."""

    detail: str
    error: str | None
    error_kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The run is final. ``output``: the workflow's outputs, or the results of the steps that no other step needs.

    ``error_kind`` becomes that of the step that started the run.
    """

    status: RunStatus
    detail: str | None = None
    error: str | None = None
    error_kind: str | None = None
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
RunAction: TypeAlias = Hold | Mark | Finish
Action: TypeAlias = StepAction | RunAction


def compensation_id(step_id: str) -> str:
    """Return the id of the step that undoes *step_id*; ids in definitions cannot contain the colon."""
    return f"{COMPENSATION_PREFIX}{step_id}"


# Stored as signals: who made such a request, and when.
RETRY_SIGNAL, CANCEL_SIGNAL, DONE_BY_HAND_SIGNAL = "run:retry", "run:cancel", "run:compensation-done"


def approval_name(step_id: str) -> str:
    """Return the name of the signal that decides an approval; names chosen by users cannot contain the colon."""
    return f"approval:{step_id}"
