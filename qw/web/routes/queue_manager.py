"""The state of all queues together: task counts and load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from typing_extensions import TypedDict

from qw.web.enqueueing import NewTaskForm, enqueued
from qw.web.route import Request, get, post
from qw.web.routes.tasks import MessageAnswer, MessageWithTask, ended_in_time, retried
from qw.web.serializers import TaskEntity


class QueueStatus(TypedDict):
    pending: int
    processing: int
    completed: int
    failed: int
    total: int
    isHealthy: bool


class Overload(TypedDict):
    isOverloaded: bool
    message: str


class FailedCount(TypedDict):
    failedTasks: int


class PendingCount(TypedDict):
    pendingTasks: int


@dataclass(frozen=True, kw_only=True)
class _Counts:
    pending: int  # includes tasks that wait for their start time or a retry
    processing: int
    completed: int
    failed: int


async def _counts(call: Request[Any, Any]) -> _Counts:
    stats = await call.client.queues.stats()
    return _Counts(
        pending=sum(queue.pending + queue.retrying for queue in stats),
        processing=sum(queue.processing for queue in stats),
        completed=sum(queue.completed for queue in stats),
        failed=sum(queue.failed for queue in stats),
    )


async def status(call: Request[None, None]) -> QueueStatus:
    """Count tasks by status. Pending includes tasks that wait for their start time or for a retry."""
    counts = await _counts(call)
    limits = call.site.options.thresholds
    return {
        "pending": counts.pending,
        "processing": counts.processing,
        "completed": counts.completed,
        "failed": counts.failed,
        "total": counts.pending + counts.processing + counts.completed + counts.failed,
        "isHealthy": counts.failed < limits.unhealthy_failed and counts.pending < limits.unhealthy_pending,
    }


async def overloaded(call: Request[None, None]) -> Overload:
    """Whether more tasks are pending or failed than the configured thresholds."""
    counts = await _counts(call)
    limits = call.site.options.thresholds
    if counts.pending > limits.overloaded_pending or counts.failed > limits.overloaded_failed:
        return {"isOverloaded": True, "message": "Queue is overloaded"}
    return {"isOverloaded": False, "message": "Queue is operating normally"}


async def failed_count(call: Request[None, None]) -> FailedCount:
    """Count failed tasks."""
    return {"failedTasks": (await _counts(call)).failed}


async def pending_count(call: Request[None, None]) -> PendingCount:
    """Count pending tasks."""
    return {"pendingTasks": (await _counts(call)).pending}


async def enqueue(call: Request[NewTaskForm, None]) -> MessageWithTask | TaskEntity:
    """Create a task. With ``Prefer: wait=N`` the response is the final task, if it ends within N seconds."""
    id = await enqueued(call, call.body)
    if ended := await ended_in_time(call, id):
        return ended
    return {"taskId": str(id), "message": "Task enqueued successfully"}


async def retry(call: Request[None, None]) -> MessageAnswer:
    """Retry a failed, cancelled or retrying task."""
    await retried(call, call.id(name="taskId"))
    return {"message": "Task retry initiated"}


ROUTES = (
    get("/api/queue-manager/status", status, QueueStatus),
    get("/api/queue-manager/overloaded", overloaded, Overload),
    get("/api/queue-manager/failed-count", failed_count, FailedCount),
    get("/api/queue-manager/pending-count", pending_count, PendingCount),
    post(
        "/api/queue-manager/enqueue",
        enqueue,
        MessageWithTask | TaskEntity,
        body=NewTaskForm,
        errors=(404, 409),
        keyed=True,
        waits=True,
    ),
    post("/api/queue-manager/retry/{taskId}", retry, MessageAnswer, errors=(404,)),
)
