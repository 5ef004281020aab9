"""The timeline of a run, and a preview of what a retry would repeat."""

from __future__ import annotations

from typing_extensions import TypedDict

from qw.client.run_timeline import TimelineStep
from qw.core.errors import NotFound
from qw.core.task.masking import masked_error
from qw.core.workflow.run import COMPENSATION_PREFIX, Counts, StepStatus
from qw.web.errors import Problem
from qw.web.fields import Form, Id, Stamp
from qw.web.route import Request, get
from qw.web.run_serializers import RunEntity, run_entity
from qw.web.serializers import StepAttempt, stamp_or_none, step_attempt

WAITING = "waiting"  # the status of a step that has not started


class PreviewQuery(Form):
    """``step``: the step to retry from; default: the failed steps."""

    step: str | None = None


class StepItemCounts(TypedDict):
    total: int
    started: int
    completed: int
    failed: int


class TimelineStepEntity(TypedDict):
    id: str
    type: str
    needs: list[str]
    status: str
    taskId: Id | None
    childRunId: Id | None
    items: StepItemCounts | None
    startedAt: Stamp | None
    finishedAt: Stamp | None
    error: str | None
    compensates: str | None
    attempts: list[StepAttempt]


class Timeline(TypedDict):
    run: RunEntity
    steps: list[TimelineStepEntity]


class Preview(TypedDict):
    again: list[str]
    kept: list[str]


async def timeline(call: Request[None, None]) -> Timeline:
    """Get a run with all steps of its definition, what each needs, and the attempts of their tasks."""
    id = call.id("Run")
    try:
        run, steps = await call.client.runs.timeline(id)
    except NotFound:
        raise Problem(404, f"Run with id {id} not found", code="not_found") from None
    return {"run": run_entity(run, call.shown), "steps": [_step(step) for step in steps]}


async def retry_preview(call: Request[None, PreviewQuery]) -> Preview:
    """Get the steps that a retry would repeat, and those that it would keep. Nothing is changed."""
    preview = await call.client.runs.retry_preview(call.id("Run"), call.query.step)
    return {"again": preview.again, "kept": preview.kept}


def _step(step: TimelineStep) -> TimelineStepEntity:
    state = step.state
    id = state.step_id
    return {
        "id": id,
        "type": state.type,
        "needs": list(step.needs),
        "status": WAITING if state.status is StepStatus.PENDING else state.status,
        "taskId": str(state.task_id) if state.task_id else None,
        "childRunId": str(state.child_id) if state.child_id else None,
        "items": _items(state.items) if state.items else None,
        "startedAt": stamp_or_none(state.started_at),
        "finishedAt": stamp_or_none(state.finished_at),
        "error": masked_error(state.error),
        "compensates": id.removeprefix(COMPENSATION_PREFIX) if id.startswith(COMPENSATION_PREFIX) else None,
        "attempts": [step_attempt(attempt) for attempt in step.attempts],
    }


def _items(counts: Counts) -> StepItemCounts:
    return {
        "total": counts.total,
        "started": counts.started,
        "completed": counts.completed,
        "failed": counts.failed,
    }


ROUTES = (
    get("/api/runs/{id}/timeline", timeline, Timeline, errors=(404,)),
    get("/api/runs/{id}/retry-preview", retry_preview, Preview, query=PreviewQuery, errors=(404, 409)),
)
