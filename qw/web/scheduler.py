"""Tasks that wait for their time."""

from __future__ import annotations

from qw.client import watching
from qw.web.enqueueing import NewTaskForm, enqueued
from qw.web.entity import TaskEntity, entities, entity
from qw.web.fields import NeededDate, moment
from qw.web.route import Call, get, post
from qw.web.tasks import the_task


class ScheduledTaskForm(NewTaskForm):
    scheduled_at: NeededDate


async def schedule(call: Call[ScheduledTaskForm, None]) -> TaskEntity:
    """Create a task that runs at its time, once; at once when that has passed."""
    id = await enqueued(call, call.body, run_at=moment(call.body.scheduled_at))
    return await entity(call.client, await the_task(call, id))


async def scheduled(call: Call[None, None]) -> list[TaskEntity]:
    """The tasks that wait for their time, the next first, at most 1,000."""
    return await entities(call.client, await watching.scheduled(call.client))


ROUTES = (
    post("/api/scheduler/tasks/scheduled", schedule, TaskEntity, body=ScheduledTaskForm, errors=(404, 409), keyed=True),
    get("/api/scheduler/tasks/scheduled", scheduled, list[TaskEntity]),
)
