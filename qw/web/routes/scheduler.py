"""Tasks with a future start time."""

from __future__ import annotations

from qw.web.enqueueing import NewTaskForm, enqueued
from qw.web.fields import NeededDate, moment
from qw.web.route import Request, get, post
from qw.web.routes.tasks import the_task
from qw.web.serializers import TaskEntity, entities, entity


class ScheduledTaskForm(NewTaskForm):
    scheduled_at: NeededDate


async def schedule(call: Request[ScheduledTaskForm, None]) -> TaskEntity:
    """Create a task that runs once, at a given time, or immediately if that time has passed."""
    id = await enqueued(call, call.body, run_at=moment(call.body.scheduled_at))
    return await entity(call.client, await the_task(call, id), shown=call.shown)


async def scheduled(call: Request[None, None]) -> list[TaskEntity]:
    """List tasks with a future start time, earliest first, at most 1,000."""
    return await entities(call.client, await call.client.tasks.scheduled(), shown=call.shown)


ROUTES = (
    post("/api/scheduler/tasks/scheduled", schedule, TaskEntity, body=ScheduledTaskForm, errors=(404, 409), keyed=True),
    get("/api/scheduler/tasks/scheduled", scheduled, list[TaskEntity]),
)
