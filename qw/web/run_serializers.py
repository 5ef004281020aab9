"""JSON of runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from qw.client.runs import RunDetails
from qw.core.task.masking import masked_error
from qw.core.workflow.run import RunStatus, StepState, StepStatus
from qw.store.runs import StoredRun
from qw.web.fields import Id, Stamp
from qw.web.route import Request
from qw.web.serializers import stamp, stamp_or_none
from qw.web.shown import Shown


class StepEntity(TypedDict):
    id: str
    type: str
    status: StepStatus
    taskId: Id | None
    error: str | None
    errorKind: str | None
    result: Any
    startedAt: Stamp
    finishedAt: Stamp | None


class RunEntity(TypedDict):
    id: Id
    workflow: str
    workflowId: Id
    status: RunStatus
    detail: str | None
    input: dict[str, Any]
    output: Any
    error: str | None
    createdAt: Stamp
    startedAt: Stamp | None
    finishedAt: Stamp | None


class RunWithSteps(RunEntity):
    steps: list[StepEntity]


def run_entity(run: StoredRun, shown: Shown) -> RunEntity:
    return {
        "id": str(run.id),
        "workflow": run.workflow,
        "workflowId": str(run.workflow_id),
        "status": run.status,
        "detail": run.detail,
        "input": shown.object(run.input),
        "output": shown.json(run.output),
        "error": masked_error(run.error),
        "createdAt": stamp(run.created_at),
        "startedAt": stamp_or_none(run.started_at),
        "finishedAt": stamp_or_none(run.finished_at),
    }


def with_steps(details: RunDetails, shown: Shown) -> RunWithSteps:
    return {**run_entity(details.run, shown), "steps": [_step(step, shown) for step in details.steps]}


def _step(step: StepState, shown: Shown) -> StepEntity:
    assert step.started_at is not None  # true of every stored step
    return {
        "id": step.step_id,
        "type": step.type,
        "status": step.status,
        "taskId": str(step.task_id) if step.task_id else None,
        "error": masked_error(step.error),
        "errorKind": step.error_kind,
        "result": shown.json(step.result),
        "startedAt": stamp(step.started_at),
        "finishedAt": stamp_or_none(step.finished_at),
    }


async def ended_in_time(call: Request[Any, Any], id: UUID) -> RunWithSteps | None:
    """Return the final run if the caller asked to wait and it ends in time; otherwise None."""
    ended = await call.in_time(lambda longest: call.client.runs.wait(id, timeout=longest))
    return with_steps(ended, call.shown) if ended else None
