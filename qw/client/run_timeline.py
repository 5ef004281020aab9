"""The timeline of a run: each step of its definition and each compensation, with its needs and its attempts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from qw.core.task import Attempt, Task
from qw.core.workflow.run import COMPENSATION_PREFIX, StepState
from qw.core.workflow.step import Step
from qw.core.workflow.workflow import Workflow
from qw.store import tasks
from qw.store.connection import Connection
from qw.store.runs import StoredRun

MOST_ATTEMPTS = 5000  # maximum in one answer; the oldest are left out


@dataclass(frozen=True, kw_only=True)
class TimelineAttempt:
    """An attempt of the task of a step. ``ended_at`` None: it is running."""

    attempt: int
    outcome: str
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class TimelineStep:
    """``begun``: the stored step; None while it has not started. ``compensates``: id of the step that it undoes."""

    id: str
    type: str
    needs: Sequence[str]
    begun: StepState | None
    compensates: str | None = None
    attempts: Sequence[TimelineAttempt] = ()


@dataclass(frozen=True, kw_only=True)
class RunTimeline:
    """Steps in the order of the definition, then compensations and other steps in the order in which they started."""

    run: StoredRun
    steps: Sequence[TimelineStep]


async def read_timeline(
    conn: Connection, run: StoredRun, workflow: Workflow, begun: Sequence[StepState]
) -> RunTimeline:
    ids = [step.task_id for step in begun if step.task_id]
    known = {task.id: task for task in await tasks.get(conn, ids)}
    past: dict[UUID, list[Attempt]] = {}
    for attempt in await tasks.attempts_of(conn, ids, limit=MOST_ATTEMPTS):
        past.setdefault(attempt.task_id, []).append(attempt)
    return RunTimeline(run=run, steps=[*_steps(workflow, {step.step_id: step for step in begun}, known, past)])


def _steps(
    workflow: Workflow,
    begun: Mapping[str, StepState],
    known: Mapping[UUID, Task],
    past: Mapping[UUID, Sequence[Attempt]],
) -> Iterator[TimelineStep]:
    for step in workflow.steps:
        yield _step(step.id, step, begun.get(step.id), known, past)
    declared = {step.id for step in workflow.steps}
    for id, row in begun.items():
        if id not in declared:
            yield _step(id, workflow.by_id.get(id), row, known, past)


def _step(
    id: str,
    step: Step | None,
    row: StepState | None,
    known: Mapping[UUID, Task],
    past: Mapping[UUID, Sequence[Attempt]],
) -> TimelineStep:
    task = known.get(row.task_id) if row and row.task_id else None
    return TimelineStep(
        id=id,
        type=row.type if row else step.work.type if step else "",
        needs=step.needs if step else (),
        begun=row,
        compensates=id.removeprefix(COMPENSATION_PREFIX) if id.startswith(COMPENSATION_PREFIX) else None,
        attempts=[*_attempts(task, past.get(task.id, ()))] if task else (),
    )


def _attempts(task: Task, past: Sequence[Attempt]) -> Iterator[TimelineAttempt]:
    for attempt in past:
        yield TimelineAttempt(
            attempt=attempt.attempt,
            outcome=attempt.outcome,
            started_at=attempt.started_at,
            ended_at=attempt.ended_at,
            error=attempt.error,
        )
    if task.started_at and (task.finished_at or task.status == "processing"):
        yield TimelineAttempt(
            attempt=task.attempt,
            outcome=task.status,
            started_at=task.started_at,
            ended_at=task.finished_at,
            error=task.error,
        )
