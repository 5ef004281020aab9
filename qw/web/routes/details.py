"""Details of one object: the history of a task, a queue's slots, a worker's tasks, events, the database."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from typing_extensions import TypedDict

from qw.client.details import LAST_EVENT
from qw.client.stacks import stack_text
from qw.config import Role
from qw.core.errors import NotFound
from qw.core.event.webhook import HEADER, QUEUE
from qw.core.task import Attempt, Status, Task
from qw.core.task.masking import masked_error
from qw.store.details import DatabaseFacts
from qw.store.events import LoggedEvent
from qw.store.tasks import Filter
from qw.web.enqueueing import check_payload
from qw.web.errors import Problem
from qw.web.fields import Form, Id, Limit, Stamp
from qw.web.route import Request, get, post, put
from qw.web.routes.overview import ProblemEntity, problem_entity
from qw.web.routes.queues import QueueEntity, WorkerEntity, queue_entity, worker_entity
from qw.web.routes.tasks import MessageAnswer, MessageWithTask, the_task
from qw.web.serializers import StepAttempt, TaskSummary, stamp, stamp_or_none, step_attempt, task_summary


class PayloadForm(Form):
    """The complete new payload."""

    payload: dict[str, Any]


class PurgeForm(Form):
    """``confirm``: the name of the queue."""

    confirm: str


class EventsQuery(Form):
    """``type`` may contain ``*``. ``before``: only events with a lower id."""

    type: str | None = None
    task_id: UUID | None = None
    before: Annotated[int, Field(ge=1, le=LAST_EVENT)] = LAST_EVENT
    limit: Limit = 100


class AttemptEntity(StepAttempt):
    worker: int | None
    host: str | None


class EventEntity(TypedDict):
    id: int
    type: str
    taskId: Id | None
    runId: Id | None
    at: Stamp
    body: dict[str, Any]


class ProgressEntity(TypedDict):
    fraction: float
    message: str


class TaskTimeline(TypedDict):
    attempts: list[AttemptEntity]
    events: list[EventEntity]
    progress: ProgressEntity | None
    headers: dict[str, str]
    parentId: Id | None
    children: list[TaskSummary]
    command: str


class FrameEntity(TypedDict):
    file: str
    line: int
    function: str
    code: str


class ProcessEntity(TypedDict):
    pid: int
    parent: int
    command: str
    cpuPercent: float
    memoryBytes: int


class StackEntity(TypedDict):
    at: Stamp
    ageSeconds: float
    isLive: bool
    kind: Literal["coroutine", "thread", "process", "command"]
    frames: list[FrameEntity]
    processes: list[ProcessEntity]
    text: str


class TypeEntity(TypedDict):
    name: str
    schema: dict[str, Any] | None
    maxRetries: int
    timeoutSeconds: float | None


class Types(TypedDict):
    types: list[TypeEntity]


class LaneEntity(TypedDict):
    priority: int
    ready: int


class HolderEntity(TypedDict):
    taskId: Id
    type: str
    key: str
    startedAt: Stamp | None
    worker: int | None


class QueueDetailsEntity(QueueEntity):
    lanes: list[LaneEntity]
    held: int
    holders: list[HolderEntity]


class Purged(TypedDict):
    message: str
    cancelled: int


class WorkingTask(TypedDict):
    taskId: Id
    type: str
    queue: str
    attempt: int
    startedAt: Stamp


class WorkerDetails(WorkerEntity):
    memoryBytes: int | None
    tasks: list[WorkingTask]


class EventPage(TypedDict):
    events: list[EventEntity]
    nextCursor: int | None


class WebhookEntity(TypedDict):
    name: str
    url: str | None
    events: list[str]


class DeliveryEntity(TypedDict):
    id: Id
    webhook: str | None
    type: str | None
    state: Status
    status: int | None
    attempt: int
    at: Stamp
    error: str | None


class WebhookList(TypedDict):
    webhooks: list[WebhookEntity]
    deliveries: list[DeliveryEntity]


class TableEntity(TypedDict):
    name: str
    rows: int
    sizeBytes: int
    deadRows: int
    lastVacuum: Stamp | None


class ConnectionsEntity(TypedDict):
    used: int
    max: int
    byName: dict[str, int]


class MigrationEntity(TypedDict):
    current: str | None
    newest: str


class RetentionEntity(TypedDict):
    completedSeconds: float
    failedSeconds: float
    idempotencySeconds: float


class CheckEntity(TypedDict):
    name: str
    ok: bool
    level: Literal["ok", "warning", "error"]
    text: str
    fix: str | None


class DatabaseEntity(TypedDict):
    version: str
    sizeBytes: int
    tables: list[TableEntity]
    oldestTransactionSeconds: float
    connections: ConnectionsEntity
    migration: MigrationEntity
    retention: RetentionEntity
    checks: list[CheckEntity]
    problems: list[ProblemEntity]


MANY_DEAD_ROWS = 100_000
LONG_TRANSACTION_SECONDS = 300.0


async def task_timeline(call: Request[None, None]) -> TaskTimeline:
    """Get the history of a task: its attempts with their workers, its events, and the tasks made from it."""
    task = await the_task(call, call.id())
    history = await call.client.details.task(task.id)
    progress = history.progress
    return {
        "attempts": [_attempt(attempt, history.hosts) for attempt in history.attempts],
        "events": [_event(call, event) for event in reversed(history.events)],
        "progress": {"fraction": progress[0], "message": progress[1]} if progress else None,
        "headers": {**(task.headers or {})},
        "parentId": str(task.parent_id) if task.parent_id else None,
        "children": [task_summary(task) for task in history.made],
        "command": f"qw task show {task.id}",
    }


async def stack(call: Request[None, None]) -> StackEntity:
    """Get what a running task is doing, as its worker reports it: the stack of its coroutine or thread, innermost
    last, or the processes of its command. For a task that has ended, the last recorded stack."""
    reported = await call.client.tasks.stack((await the_task(call, call.id())).id)
    seen: Any = reported.seen
    entity: StackEntity = {
        "at": stamp(reported.at),
        "ageSeconds": reported.age,
        "isLive": reported.is_live,
        "kind": seen["kind"],
        "frames": seen["frames"],
        "processes": seen["processes"],
        "text": stack_text(seen),
    }
    return entity


async def edit(call: Request[PayloadForm, None]) -> MessageAnswer:
    """Replace the payload of a waiting task."""
    task = await the_task(call, call.id())
    check_payload(call, task.type, call.body.payload)
    await call.client.tasks.edit(task.id, payload=call.body.payload)
    return {"message": "Payload replaced"}


async def types(call: Request[None, None]) -> Types:
    """List the task types that workers have registered, with the JSON Schema of their payloads."""
    return {
        "types": [
            {
                "name": type.name,
                "schema": type.schema,
                "maxRetries": type.max_retries,
                "timeoutSeconds": type.timeout_seconds,
            }
            for type in await call.client.details.types()
        ]
    }


async def queue(call: Request[None, None]) -> QueueDetailsEntity:
    """Get a queue: its counts, its lanes, and the tasks that hold the slots of its limits."""
    name = call.path["name"]
    known = {queue_.stats.queue: queue_ for queue_ in await call.client.queues.all()}
    if name not in known:
        raise NotFound(f"queue {name} has had no tasks, and is neither paused nor limited")
    details = await call.client.details.queue(name)
    return {
        **queue_entity(known[name]),
        "lanes": [{"priority": priority, "ready": count} for priority, count in details.lanes],
        "held": details.held,
        "holders": [
            {
                "taskId": str(holder.task_id),
                "type": holder.type,
                "key": holder.key,
                "startedAt": stamp_or_none(holder.started_at),
                "worker": holder.worker,
            }
            for holder in details.holders
        ],
    }


async def purge(call: Request[PurgeForm, None]) -> Purged:
    """Cancel the waiting tasks of a queue, at most 10,000 per call: repeat until none is left."""
    name = call.path["name"]
    if call.body.confirm != name:
        raise Problem(400, ["confirm must be the name of the queue"])
    return {"message": f"Queue {name} purged", "cancelled": await call.client.queues.purge(name)}


async def pause_all(call: Request[None, None]) -> MessageAnswer:
    """Pause all existing queues; a queue that is created later is not paused."""
    names = [queue.stats.queue for queue in await call.client.queues.all() if not queue.pause]
    for name in names:
        await call.client.queues.pause(name, by=call.caller.name)
    return {"message": f"{len(names)} queues paused"}


async def resume_all(call: Request[None, None]) -> MessageAnswer:
    """Resume every paused queue."""
    names = [queue.stats.queue for queue in await call.client.queues.all() if queue.pause]
    for name in names:
        await call.client.queues.resume(name)
    return {"message": f"{len(names)} queues resumed"}


async def worker(call: Request[None, None]) -> WorkerDetails:
    """Get a live worker and the tasks that it runs, the longest-running first."""
    text = call.path["worker"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(400, f"{text[:60]!r} is not the number of a worker")
    running = next((row for row in await call.client.workers.all() if row.id == int(text)), None)
    if running is None:
        raise NotFound(f"worker {text} is not running")
    return {
        **worker_entity(running),
        "memoryBytes": running.memory,
        "tasks": [
            {
                "taskId": str(task.task_id),
                "type": task.type,
                "queue": task.queue,
                "attempt": task.attempt,
                "startedAt": stamp(task.claimed_at),
            }
            for task in await call.client.workers.running(running.id)
        ],
    }


async def event_log(call: Request[None, EventsQuery]) -> EventPage:
    """List events of the log, newest first; ``nextCursor`` is the ``before`` of the next page."""
    query = call.query
    page = await call.client.details.events(
        before=query.before, limit=query.limit, type=query.type, task_id=query.task_id
    )
    return {
        "events": [_event(call, event) for event in page],
        "nextCursor": page[-1].id if len(page) == query.limit else None,
    }


async def webhooks(call: Request[None, None]) -> WebhookList:
    """List the applied webhooks and their newest 100 deliveries, which are tasks of the queue ``webhooks``."""
    documents = await call.client.details.webhooks()
    deliveries = await call.client.tasks.find(Filter(queue=QUEUE), limit=100)
    return {
        "webhooks": [_webhook(name, document) for name, document in documents.items()],
        "deliveries": [*map(_delivery, deliveries)],
    }


async def replay(call: Request[None, None]) -> MessageWithTask:
    """Repeat a delivery: a failed one is retried, any other final one is enqueued again."""
    task = await the_task(call, call.id("Delivery"))
    if HEADER not in (task.headers or {}):
        raise NotFound(f"task {task.id} delivers no event")
    if task.status in (Status.FAILED, Status.CANCELLED):
        await call.client.tasks.retry([task.id])
    else:
        answer = (await call.client.tasks.requeue([task.id]))[task.id]
        if not answer.is_done:
            raise Problem(409, f"The delivery was not enqueued again: {answer.state}", code="conflict")
    return {"message": "The event is delivered again", "taskId": str(task.id)}


async def database(call: Request[None, None]) -> DatabaseEntity:
    """Get the database: sizes, dead rows, connections, migration, retention, and problems to fix."""
    facts, newest = await call.client.details.database()
    settings, glance = call.site.settings, await call.site.glance.get()
    return {
        "version": facts.version,
        "sizeBytes": facts.bytes,
        "tables": [
            {
                "name": table.name,
                "rows": table.rows,
                "sizeBytes": table.bytes,
                "deadRows": table.dead_rows,
                "lastVacuum": stamp_or_none(table.vacuumed_at),
            }
            for table in facts.tables
        ],
        "oldestTransactionSeconds": facts.transaction_seconds,
        "connections": {
            "used": sum(facts.connections.values()),
            "max": facts.max_connections,
            "byName": {**facts.connections},
        },
        "migration": {"current": facts.migration, "newest": newest},
        "retention": {
            "completedSeconds": settings.retention_completed.total_seconds(),
            "failedSeconds": settings.retention_failed.total_seconds(),
            "idempotencySeconds": settings.idempotency_retention.total_seconds(),
        },
        "checks": _checks(facts, newest),
        "problems": [problem_entity(problem) for problem in glance.problems],
    }


def _attempt(attempt: Attempt, hosts: dict[int, str]) -> AttemptEntity:
    host = hosts.get(attempt.worker) if attempt.worker is not None else None
    return {**step_attempt(attempt), "worker": attempt.worker, "host": host}


def _event(call: Request[Any, Any], event: LoggedEvent) -> EventEntity:
    return {
        "id": event.id,
        "type": event.type,
        "taskId": str(event.task_id) if event.task_id else None,
        "runId": str(event.run_id) if event.run_id else None,
        "at": stamp(event.at),
        "body": call.shown.event(event.body),
    }


def _webhook(name: str, document: dict[str, Any]) -> WebhookEntity:
    events = document.get("events")
    url = document.get("url")
    return {
        "name": name,
        "url": masked_error(url) if isinstance(url, str) else None,
        "events": [str(event) for event in events] if isinstance(events, list) else [],
    }


def _delivery(task: Task) -> DeliveryEntity:
    body = task.payload.get("body")
    status = task.result.get("statusCode", task.result.get("status")) if isinstance(task.result, dict) else None
    return {
        "id": str(task.id),
        "webhook": (task.headers or {}).get(HEADER),
        "type": str(body["type"]) if isinstance(body, dict) and "type" in body else None,
        "state": task.status,
        "status": status if isinstance(status, int) else None,
        "attempt": task.attempt,
        "at": stamp(task.finished_at or task.created_at),
        "error": masked_error(task.error),
    }


def _checks(facts: DatabaseFacts, newest: str) -> list[CheckEntity]:
    used, most = sum(facts.connections.values()), facts.max_connections
    dead = [table for table in facts.tables if table.dead_rows >= max(MANY_DEAD_ROWS, table.rows)]
    checks = [
        ("migration", facts.migration == newest, f"schema {facts.migration}", "migrate: qw db migrate"),
        (
            "transactions",
            facts.transaction_seconds < LONG_TRANSACTION_SECONDS,
            f"the oldest is {facts.transaction_seconds:.0f} s old",
            "end it: vacuum cannot remove dead rows until then; see pg_stat_activity",
        ),
        (
            "connections",
            used < most * 0.9,
            f"{used} of {most} connections are used",
            "raise max_connections, or put a pooler in front",
        ),
        (
            "vacuum",
            not dead,
            ", ".join(f"{t.name} has {t.dead_rows:,} dead rows" for t in dead) or "no table has many dead rows",
            "end long transactions, then: " + "; ".join(f"vacuum qw.{t.name}" for t in dead),
        ),
    ]
    return [
        {"name": name, "ok": ok, "level": "ok" if ok else "warning", "text": text, "fix": None if ok else fix}
        for name, ok, text, fix in checks
    ]


ROUTES = (
    get("/api/task/{id}/timeline", task_timeline, TaskTimeline, errors=(404,)),
    get("/api/tasks/{id}/timeline", task_timeline, TaskTimeline, errors=(404,)),
    get("/api/task/{id}/stack", stack, StackEntity, role=Role.OPERATOR, errors=(404, 409)),
    get("/api/tasks/{id}/stack", stack, StackEntity, role=Role.OPERATOR, errors=(404, 409)),
    put("/api/task/{id}/payload", edit, MessageAnswer, body=PayloadForm, errors=(404, 409)),
    put("/api/tasks/{id}/payload", edit, MessageAnswer, body=PayloadForm, errors=(404, 409)),
    get("/api/types", types, Types),
    post("/api/queues/pause-all", pause_all, MessageAnswer, status=200),
    post("/api/queues/resume-all", resume_all, MessageAnswer, status=200),
    get("/api/queues/{name}", queue, QueueDetailsEntity, errors=(404,)),
    post("/api/queues/{name}/purge", purge, Purged, status=200, role=Role.OPERATOR, body=PurgeForm, extra_seconds=60.0),
    get("/api/workers/{worker}", worker, WorkerDetails, errors=(404,)),
    get("/api/events/log", event_log, EventPage, query=EventsQuery),
    get("/api/webhooks", webhooks, WebhookList),
    post("/api/webhooks/deliveries/{id}/replay", replay, MessageWithTask, status=200, errors=(404, 409)),
    get("/api/database", database, DatabaseEntity),
)
