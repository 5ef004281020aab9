"""Tasks: create, get, list, cancel, retry, compensate."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, NotRequired
from uuid import UUID

from pydantic import ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from qw.core.task import Status, Task
from qw.core.task.answer import AnswerCode
from qw.core.why import Reason
from qw.store.tasks import LAST_ID, Filter
from qw.web.enqueueing import NewTaskForm, TaskForm, enqueued_task
from qw.web.errors import Problem
from qw.web.fields import Form, Id, Limit, Moment, QueryMoment, Switch, Text
from qw.web.route import Request, Route, get, post
from qw.web.routes.recurring import entity_of, removed
from qw.web.serializers import LogEntity, TaskEntity, entities, entity, log_entity, relations

NOT_FOUND = "Task with id {} not found"
MOST_AT_ONCE = 1000  # maximum number of tasks changed per request

_PATTERN = {
    "type": "string",
    "pattern": "^((workflow|logs|checkpoints)(,(workflow|logs|checkpoints))*)?$",
}
Relations = Annotated[str | None, WithJsonSchema(_PATTERN)]


class TaskQuery(Form):
    status: Status | None = None
    type: str | None = None
    workflow_id: UUID | None = None
    queue: str | None = None
    since: QueryMoment = None
    until: QueryMoment = None
    limit: Limit = 100
    cursor: UUID = LAST_ID
    relations: Relations = None

    def filter(self) -> Filter:
        return Filter(status=self.status, type=self.type, queue=self.queue, since=self.since, until=self.until)


class TaskDetailsQuery(Form):
    """``reveal``: include values that are masked because they look secret; operators only."""

    relations: Relations = None
    reveal: bool = False


class CancelQuery(Form):
    running: bool = False


class SignalForm(Form):
    """``payload`` is any JSON value. ``by`` is ignored if access tokens are configured."""

    name: Text
    payload: Any = None
    by: str | None = None


class LogQuery(Form):
    after: int = 0


class BulkFilter(Form):
    """A filter for tasks; omitted fields match all. Without ``status``: all statuses to which the operation applies."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    since: Moment = None
    until: Moment = None
    error: str | None = None


class BulkForm(Form):
    """Task ids, or a filter. ``dryRun`` only counts; ``running`` also stops running tasks."""

    ids: list[UUID] | None = Field(default=None, max_length=MOST_AT_ONCE)
    filter: BulkFilter | None = None
    dry_run: Switch = False
    running: Switch = False


class Created(TypedDict):
    message: str
    taskId: Id
    type: str
    status: Status


class TaskPage(TypedDict):
    tasks: list[TaskEntity]
    total: int
    totalIsEstimate: NotRequired[bool]
    nextCursor: Id | None


class MessageAnswer(TypedDict):
    message: str


class MessageWithTask(TypedDict):
    message: str
    taskId: Id


class Logs(TypedDict):
    logs: list[LogEntity]


class ReasonEntity(TypedDict):
    code: str
    text: str
    advice: str


class Reasons(TypedDict):
    reasons: list[ReasonEntity]


class BulkDone(TypedDict):
    matched: int
    done: int
    dryRun: bool
    taskIds: list[Id]


async def create(call: Request[NewTaskForm, None]) -> Created | TaskEntity:
    """Create a task. With ``Prefer: wait=N`` the response is the final task, if it ends within N seconds."""
    id = await enqueued_task(call)
    if ended := await ended_in_time(call, id):
        return ended
    return {
        "message": "Task created and queued successfully",
        "taskId": str(id),
        "type": call.body.type,
        "status": Status.PENDING,
    }


async def ended_in_time(call: Request[Any, Any], id: UUID) -> TaskEntity | None:
    """Return the final task if the caller asked to wait and it ends in time; otherwise None."""
    ended = await call.in_time(lambda longest: call.client.wait([id], timeout=longest))
    return await entity(call.client, ended[0], shown=call.shown) if ended else None


async def find(call: Request[None, TaskQuery]) -> TaskPage:
    """List tasks, newest first; ``nextCursor`` is the cursor of the next page."""
    query = call.query
    wanted = relations(query.relations)
    matching = await call.client.tasks.find(
        query.filter(), under=query.workflow_id, limit=query.limit, before=query.cursor
    )
    if query.type is not None and not matching:  # after the query: tasks enqueued by SQL may have an unregistered type
        await call.site.check_type(query.type)
    total = await call.client.tasks.count(query.filter(), under=query.workflow_id)
    page: TaskPage = {
        "tasks": await entities(call.client, matching, wanted, shown=call.shown),
        "total": total.count,
        "nextCursor": str(matching[-1].id) if len(matching) == query.limit else None,
    }
    if total.is_estimate:
        page["totalIsEstimate"] = True
    return page


async def show(call: Request[None, TaskDetailsQuery]) -> TaskEntity:
    """Get a task; ``relations=workflow,logs,checkpoints`` adds its workflow, first lines of its log and checkpoints."""
    wanted, id = relations(call.query.relations), call.id()
    if task := await call.site.lookups.get(id):
        if call.query.reveal:
            await call.note_reveal("task", id)
        return await entity(call.client, task, wanted, shown=call.shown_to_operators(reveal=call.query.reveal))
    if recurring := await entity_of(call, id):
        return recurring
    raise Problem(404, NOT_FOUND.format(id), code="not_found")


async def retry(call: Request[None, None]) -> MessageAnswer:
    """Retry a failed, cancelled or retrying task, with a new retry budget."""
    await retried(call, call.id())
    return {"message": "Task queued for retry"}


async def cancel(call: Request[None, CancelQuery]) -> MessageAnswer:
    """Cancel a waiting task; with ``running=true`` also ask a running one to stop."""
    id = call.id()
    answer = (await call.client.tasks.cancel([id], running=call.query.running))[id]
    is_missing = answer.code is AnswerCode.MISSING
    if is_missing and not await removed(call, id):
        raise Problem(404, NOT_FOUND.format(id), code="not_found")
    if not answer.is_done and not is_missing:
        raise Problem(400, "Only pending tasks can be cancelled", code="conflict")
    return {"message": "Task cancelled successfully"}


async def signal(call: Request[SignalForm, None]) -> MessageAnswer:
    """Send a signal to a task, for `context.wait_signal` in its handler, now or later."""
    task, form = await the_task(call, call.id()), call.body
    await call.client.tasks.signal(task.id, form.name, form.payload, by=call.recorded_name(form.by))
    return {"message": f"Signal {form.name} sent"}


async def compensate(call: Request[None, None]) -> MessageWithTask:
    """Enqueue a compensation task that undoes a task."""
    task = await the_task(call, call.id())
    new = await call.client.tasks.compensate_again(task.id, idempotency_key=call.header(b"idempotency-key"))
    return {"message": "Compensation task created and queued", "taskId": str(new)}


async def logs(call: Request[None, LogQuery]) -> Logs:
    """List the log lines of a task after the line id ``after``, oldest first, at most 1,000."""
    task = await the_task(call, call.id())
    return {"logs": [log_entity(line) for line in await call.client.tasks.logs(task.id, after=call.query.after)]}


async def why(call: Request[None, None]) -> Reasons:
    """Explain why a task does not run: reasons, most important first; otherwise its current state."""
    task = await the_task(call, call.id())
    return {"reasons": [reason_entity(reason) for reason in await call.client.tasks.why(task.id)]}


def reason_entity(reason: Reason) -> ReasonEntity:
    return {"code": reason.code, "text": reason.text, "advice": reason.advice}


async def retry_many(call: Request[BulkForm, None]) -> BulkDone:
    """Retry tasks by ids, or failed ones by filter, at most 1,000 per call: repeat until none matches."""
    ids = await _chosen(call, Status.FAILED)
    answers = {} if call.body.dry_run else await call.client.tasks.retry(ids)
    return _done(call.body, ids, [id for id, answer in answers.items() if answer.is_done])


async def cancel_many(call: Request[BulkForm, None]) -> BulkDone:
    """Cancel tasks by ids or filter, at most 1,000 per call: repeat until none matches."""
    ids = await _chosen(call, Status.PENDING, Status.RETRYING, *([Status.PROCESSING] if call.body.running else []))
    answers = {} if call.body.dry_run else await call.client.tasks.cancel(ids, running=call.body.running)
    return _done(call.body, ids, [id for id, answer in answers.items() if answer.is_done])


async def _chosen(call: Request[BulkForm, None], *statuses: Status) -> list[UUID]:
    """Return the given ids, or the newest matching tasks; *statuses* apply unless the filter names one."""
    if call.body.ids is not None and call.body.filter is None:
        return call.body.ids
    if call.body.filter is None or call.body.ids is not None:
        raise Problem(400, "Give either ids or filter")
    match = Filter(**call.body.filter.model_dump())
    ids: list[UUID] = []
    for status in [match.status] if match.status else statuses:
        ids += await call.client.tasks.find_ids(replace(match, status=status), limit=MOST_AT_ONCE - len(ids))
    return ids


def _done(form: BulkForm, ids: list[UUID], done: list[UUID]) -> BulkDone:
    shown = ids if form.dry_run else done
    return {"matched": len(ids), "done": len(done), "dryRun": form.dry_run, "taskIds": [str(id) for id in shown]}


async def the_task(call: Request[Any, Any], id: UUID) -> Task:
    if task := await call.site.lookups.get(id):
        return task
    raise Problem(404, NOT_FOUND.format(id), code="not_found")


async def retried(call: Request[Any, Any], id: UUID) -> None:
    answer = (await call.client.tasks.retry([id]))[id]
    if answer.code is AnswerCode.MISSING:
        raise Problem(404, NOT_FOUND.format(id), code="not_found")
    if refused := answer.error("retry", id):
        raise Problem(400, str(refused), code=refused.code)


def _both(route: Route) -> tuple[Route, Route]:
    """Return the route under both paths: ``/api/task`` and ``/api/tasks``."""
    return route, replace(route, path=route.path.replace("/api/task", "/api/tasks", 1))


ROUTES = (
    *_both(post("/api/task", create, Created | TaskEntity, body=TaskForm, errors=(404, 409), keyed=True, waits=True)),
    *_both(get("/api/task", find, TaskPage, query=TaskQuery)),
    *_both(post("/api/task/retry", retry_many, BulkDone, body=BulkForm)),
    *_both(post("/api/task/cancel", cancel_many, BulkDone, body=BulkForm)),
    *_both(get("/api/task/{id}", show, TaskEntity, query=TaskDetailsQuery, errors=(404,))),
    *_both(post("/api/task/{id}/retry", retry, MessageAnswer, errors=(404,))),
    *_both(post("/api/task/{id}/cancel", cancel, MessageAnswer, query=CancelQuery, errors=(404,))),
    *_both(post("/api/task/{id}/signal", signal, MessageAnswer, body=SignalForm, errors=(404, 409))),
    *_both(post("/api/task/{id}/compensate", compensate, MessageWithTask, errors=(404, 409), keyed=True)),
    *_both(get("/api/task/{id}/why", why, Reasons, errors=(404,))),
    *_both(get("/api/task/{id}/logs", logs, Logs, query=LogQuery, errors=(404,))),
)
