"""The timeline of a run: each step of its definition and each compensation, with its needs and its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from qw.core.task import Attempt
from qw.core.workflow.run import StepState, StepStatus
from qw.core.workflow.workflow import Workflow
from qw.store import tasks
from qw.store.connection import Connection

MOST_ATTEMPTS = 5000  # maximum in one answer; the oldest are left out


@dataclass(frozen=True, kw_only=True)
class TimelineStep:
    """A step, pending if it has not started, with the steps that it needs and the attempts of its task."""

    state: StepState
    needs: Sequence[str]
    attempts: Sequence[Attempt]


async def read_timeline(conn: Connection, workflow: Workflow, begun: Sequence[StepState]) -> list[TimelineStep]:
    """Return the steps in the order of the definition, then compensations and others in the order of their starts."""
    attempts = await _attempts(conn, [state.task_id for state in begun if state.task_id])
    states = {step.id: StepState(step.id, StepStatus.PENDING, type=step.work.type) for step in workflow.steps}
    states |= {state.step_id: state for state in begun}
    return [
        TimelineStep(
            state=state,
            needs=workflow.by_id[id].needs if id in workflow.by_id else (),
            attempts=attempts[state.task_id] if state.task_id else (),
        )
        for id, state in states.items()
    ]


async def _attempts(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    """Return all attempts of tasks, the last attempt last."""
    attempts: dict[UUID, list[Attempt]] = {id: [] for id in ids}
    for attempt in await tasks.attempts_of(conn, ids, limit=MOST_ATTEMPTS):
        attempts[attempt.task_id].append(attempt)
    for task in await tasks.get(conn, ids):
        if last := task.last_attempt:
            attempts[task.id].append(last)
    return attempts
