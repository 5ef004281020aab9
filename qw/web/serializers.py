"""JSON of tasks and workflows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NotRequired
from uuid import UUID

from typing_extensions import TypedDict

from qw.client import Client
from qw.core.task import FILED_UNDER, Attempt, Status, Task
from qw.core.task.checkpoint import Checkpoint, CheckpointKind
from qw.core.task.masking import masked_error
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.run import RunStatus
from qw.store.tasks import LogLine
from qw.store.workflows import CustomerTask, FiledWorkflow
from qw.web.errors import Problem
from qw.web.fields import Id, Stamp
from qw.web.shown import Shown

RELATIONS = ("workflow", "logs", "checkpoints")
SCHEDULED_AT = "scheduledAt"  # the header that keeps the time after the task has started


class LogEntity(TypedDict):
    id: int
    attempt: int
    createdAt: Stamp
    level: str
    message: str


class StepAttempt(TypedDict):
    attempt: int
    outcome: str
    startedAt: Stamp | None
    endedAt: Stamp | None
    error: str | None


class CheckpointEntity(TypedDict):
    name: str
    kind: CheckpointKind
    outcome: str | None
    since: Stamp
    dueAt: Stamp | None
    endedAt: Stamp | None
    taskId: Id | None
    value: Any
    error: str | None


class WorkflowEntity(TypedDict):
    id: Id
    createdAt: Stamp
    updatedAt: Stamp
    deletedAt: None
    name: str
    definition: dict[str, Any]
    isActive: bool
    status: RunStatus
    error: str | None


class TaskSummary(TypedDict):
    id: Id
    type: str
    status: Status
    createdAt: Stamp
    completedAt: Stamp | None


class TaskEntity(TypedDict):
    id: Id
    createdAt: Stamp
    updatedAt: Stamp
    deletedAt: None
    type: str
    payload: dict[str, Any]
    status: Status
    retries: int
    maxRetries: int
    error: str | None
    errorKind: str | None
    scheduledAt: Stamp | None
    result: Any
    queue: str
    priority: int
    attempt: int
    startedAt: Stamp | None
    finishedAt: Stamp | None
    workflowId: Id | None
    runId: Id | None
    stepId: str | None
    workflow: NotRequired[WorkflowEntity | None]
    logs: NotRequired[list[LogEntity]]
    checkpoints: NotRequired[list[CheckpointEntity]]


def stamp(at: datetime) -> str:
    """Return ISO 8601 in UTC with three decimals."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def stamp_or_none(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def stamp_of_seconds(at: float) -> str:
    """Return `stamp` of seconds since 1970."""
    return stamp(datetime.fromtimestamp(at, UTC))


def relations(text: str | None) -> frozenset[str]:
    """Parse the comma-separated relations in *text*. Raise Problem for unknown ones."""
    named = frozenset(text.split(",") if text else ())
    if unknown := sorted(named.difference(RELATIONS)):
        raise Problem(400, f"Unknown relation {unknown[0][:60]!r}; there are {', '.join(RELATIONS)}")
    return named


def task_summary(task: Task | CustomerTask) -> TaskSummary:
    return {
        "id": str(task.id),
        "type": task.type,
        "status": Status(task.status),
        "createdAt": stamp(task.created_at),
        "completedAt": stamp_or_none(task.finished_at),
    }


async def entities(
    client: Client, tasks: Sequence[Task], relations: Collection[str] = (), *, shown: Shown
) -> list[TaskEntity]:
    """Return the JSON of *tasks*, including their workflows, last errors and the requested *relations*."""
    under = await client.tasks.workflow_ids(tasks)
    errors = await client.tasks.last_errors(tasks)
    made = [_task(task, under.get(task.id), errors.get(task.id), shown) for task in tasks]
    if "workflow" in relations:
        workflows = await client.workflows.by_ids(set(under.values()))
        for task, document in zip(tasks, made, strict=True):
            workflow = workflows.get(under[task.id]) if task.id in under else None
            document["workflow"] = workflow_entity(workflow) if workflow else None
    if "logs" in relations:
        lines = await client.tasks.first_logs([task.id for task in tasks])
        for task, document in zip(tasks, made, strict=True):
            document["logs"] = [log_entity(line) for line in lines.get(task.id, [])]
    if "checkpoints" in relations:
        for task, document in zip(tasks, made, strict=True):
            document["checkpoints"] = [
                _checkpoint(checkpoint, shown) for checkpoint in await client.tasks.checkpoints(task.id)
            ]
    return made


async def entity(client: Client, task: Task, relations: Collection[str] = (), *, shown: Shown) -> TaskEntity:
    return (await entities(client, [task], relations, shown=shown))[0]


def _task(task: Task, workflow: UUID | None, last_error: str | None, shown: Shown) -> TaskEntity:
    return {
        "id": str(task.id),
        "createdAt": stamp(task.created_at),
        "updatedAt": stamp(task.finished_at or task.started_at or task.created_at),
        "deletedAt": None,
        "type": task.type,
        "payload": shown.object(_merged(task.payload, task.result)),
        "status": task.status,
        "retries": task.retries,
        "maxRetries": task.max_retries,
        "error": masked_error(task.error or last_error),
        "errorKind": task.error_kind,
        "scheduledAt": _scheduled_at(task),
        "result": shown.json(task.result),
        "queue": task.queue,
        "priority": task.priority,
        "attempt": task.attempt,
        "startedAt": stamp_or_none(task.started_at),
        "finishedAt": stamp_or_none(task.finished_at),
        "workflowId": str(workflow) if workflow else None,
        "runId": str(task.run_id) if task.run_id else None,
        "stepId": task.step,
    }


def _merged(payload: JsonObject, result: Json) -> JsonObject:
    """Return the payload extended by the members of the result; members of the payload win."""
    return {**payload, **result, **payload} if isinstance(result, dict) else payload


def _scheduled_at(task: Task) -> str | None:
    if task.status is Status.PENDING and task.run_at:
        return stamp(task.run_at)
    return (task.headers or {}).get(SCHEDULED_AT)


def log_entity(line: LogLine) -> LogEntity:
    return {
        "id": line.id,
        "attempt": line.attempt,
        "createdAt": stamp(line.at),
        "level": line.level,
        "message": line.message,
    }


def _checkpoint(checkpoint: Checkpoint, shown: Shown) -> CheckpointEntity:
    return {
        "name": str(checkpoint.key),
        "kind": checkpoint.kind,
        "outcome": checkpoint.outcome,
        "since": stamp(checkpoint.at),
        "dueAt": stamp_or_none(checkpoint.due_at),
        "endedAt": stamp_or_none(checkpoint.ended_at),
        "taskId": str(checkpoint.child_id) if checkpoint.child_id else None,
        "value": shown.json(checkpoint.value),
        "error": masked_error(checkpoint.error),
    }


def workflow_entity(workflow: FiledWorkflow) -> WorkflowEntity:
    return {
        "id": str(workflow.id),
        "createdAt": stamp(workflow.created_at),
        "updatedAt": stamp(workflow.updated_at),
        "deletedAt": None,
        "name": workflow.title,
        "definition": workflow.document,
        "isActive": workflow.is_active,
        "status": workflow.status or RunStatus.PENDING,
        "error": masked_error(workflow.error),
    }


def step_attempt(attempt: Attempt) -> StepAttempt:
    return {
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "startedAt": stamp_or_none(attempt.started_at),
        "endedAt": stamp_or_none(attempt.ended_at),
        "error": masked_error(attempt.error),
    }


__all__ = [
    "FILED_UNDER",
    "SCHEDULED_AT",
    "LogEntity",
    "TaskEntity",
    "WorkflowEntity",
    "entities",
    "entity",
    "log_entity",
    "relations",
    "stamp",
    "stamp_of_seconds",
    "stamp_or_none",
    "step_attempt",
    "workflow_entity",
]
