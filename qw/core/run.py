"""A run of a workflow in values: how it and its steps stand, and the actions that `qw.core.plan` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from qw.core.payload import Json, JsonObject
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, Backoff

COMPENSATION = "compensation"  # the type whose steps count as undoing, where ``on_failure`` has one
COMPENSATING = "compensating"  # detail of a run that goes back
CANCELLING = "cancelling"  # detail of a cancelled run whose tasks have not all stopped


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
    RUNNING = "running"  # its task is not final
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (StepStatus.PENDING, StepStatus.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A start of a workflow. ``detail`` is what `Mark` and `Finish` stored last."""

    id: UUID
    input: JsonObject
    status: RunStatus = RunStatus.RUNNING
    detail: str | None = None
    cancel_asked: bool = False


@dataclass(frozen=True, kw_only=True)
class StepState:
    """How a step stands. ``finished`` rises with each step that ends in the run; ``result`` is that of its task."""

    step_id: str
    status: StepStatus
    task_id: UUID | None = None
    result: Json = None
    error: str | None = None
    finished: int = 0
    cancel_asked: bool = False


@dataclass(frozen=True, kw_only=True)
class Start:
    """Make the step's task. ``compensates`` is the task that this one undoes, if any: its parent."""

    step_id: str
    type: str
    payload: JsonObject
    max_retries: int | None = None
    timeout: timedelta | None = None
    backoff: Backoff | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    compensates: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Skip:
    step_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fail:
    """The step failed before it had a task: an expression has no value over what there is."""

    step_id: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Ask the step's running task to stop."""

    step_id: str
    task_id: UUID | None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The run goes on as ``detail``, from where there is no way to another; ``error`` is known by now."""

    detail: str
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The run is over. ``output`` has the results of the steps that no other needs, by step."""

    status: RunStatus
    detail: str | None = None
    error: str | None = None
    output: JsonObject | None = None


Begun: TypeAlias = Start | Skip | Fail
Action: TypeAlias = Start | Skip | Fail | Cancel | Mark | Finish


def compensation_id(step_id: str) -> str:
    """The id of the step that undoes *step_id*; the colon keeps it apart from the ids in definitions."""
    return f"compensate:{step_id}"
