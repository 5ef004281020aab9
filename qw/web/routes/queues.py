"""Queues (pause, resume, limits) and workers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from qw.client.queues import QueueOverview
from qw.config.values import Role
from qw.core.errors import Fault, Invalid
from qw.core.queue.limits import Limits, limits_of
from qw.core.worker_slots import SlotChange
from qw.store.workers import WorkerRow
from qw.web.errors import Problem
from qw.web.fields import Form, Stamp, Whole
from qw.web.route import Request, delete, get, post, put
from qw.web.routes.tasks import MessageAnswer
from qw.web.serializers import stamp, stamp_or_none

Count = Annotated[Whole | None, Field(ge=1, le=1_000_000)]


class LimitsForm(Form):
    """All limits: omitted ones are removed. ``key`` is a path, as ``payload.customerId``; a rate reads ``100/m``."""

    model_config = ConfigDict(extra="forbid")

    concurrency: Count = None
    rate: str | None = None
    key: str | None = None
    per_key: Count = None
    per_key_rate: str | None = None


class SlotsForm(Form):
    """How many handlers a worker runs at once, by kind; ``process`` counts commands too. Omitted ones stay."""

    model_config = ConfigDict(extra="forbid")

    async_: Annotated[Whole | None, Field(alias="async", ge=1)] = None
    thread: Annotated[Whole | None, Field(ge=1)] = None
    process: Annotated[Whole | None, Field(ge=1)] = None


class LimitsEntity(TypedDict):
    concurrency: int | None
    rate: str | None
    key: str | None
    perKey: int | None
    perKeyRate: str | None


class QueueEntity(TypedDict):
    name: str
    pausedAt: Stamp | None
    pausedBy: str | None
    pending: int
    processing: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    oldestSeconds: float | None
    limits: LimitsEntity | None


class QueueList(TypedDict):
    queues: list[QueueEntity]


class WorkerEntity(TypedDict):
    id: int
    host: str
    pid: int
    version: str
    types: list[str]
    queues: list[str]
    slots: dict[str, Any]
    running: int
    draining: bool
    startedAt: Stamp
    seenAt: Stamp


class WorkerList(TypedDict):
    workers: list[WorkerEntity]


async def find(call: Request[None, None]) -> QueueList:
    """List the queues that have or had tasks, are paused or are limited, by name."""
    return {"queues": [queue_entity(queue) for queue in await call.client.queues.all()]}


async def pause(call: Request[None, None]) -> MessageAnswer:
    """Pause a queue: no tasks are claimed from it; running tasks continue."""
    await call.client.queues.pause(call.path["name"], by=call.caller.name)
    return {"message": f"Queue {call.path['name']} paused"}


async def resume(call: Request[None, None]) -> MessageAnswer:
    """Resume a paused queue."""
    name = call.path["name"]
    was_paused = await call.client.queues.resume(name)
    return {"message": f"Queue {name} resumed" if was_paused else f"Queue {name} was not paused"}


async def limit(call: Request[LimitsForm, None]) -> LimitsEntity:
    """Replace the limits of a queue: tasks running at once, tasks started per interval."""
    try:
        limits = limits_of(call.body.model_dump())
    except Invalid as error:
        raise Invalid(*[Fault(path=to_camel(fault.path), message=fault.message) for fault in error.faults]) from None
    await call.client.queues.limit(call.path["name"], limits)
    return _limits(limits)


async def unlimit(call: Request[None, None]) -> MessageAnswer:
    """Remove the limits of a queue."""
    name = call.path["name"]
    was_limited = await call.client.queues.unlimit(name)
    return {"message": f"Queue {name} no longer has limits" if was_limited else f"Queue {name} was not limited"}


async def workers(call: Request[None, None]) -> WorkerList:
    """List the live workers, newest first."""
    return {"workers": [worker_entity(worker) for worker in await call.client.workers.all()]}


async def drain(call: Request[None, None]) -> MessageAnswer:
    """Drain a worker: it claims no more tasks, finishes its running ones, and stops."""
    id = _worker(call.path["worker"])
    await call.client.workers.drain(id)
    return {"message": f"Worker {id} is draining"}


async def resize(call: Request[SlotsForm, None]) -> MessageAnswer:
    """Change how many handlers a worker runs at once. It takes effect within about a second, until the worker stops."""
    id = _worker(call.path["worker"])
    change = SlotChange(call.body.model_dump(by_alias=True, exclude_none=True))
    await call.client.workers.resize(change, id)
    return {"message": f"Worker {id} has {change.name} slots"}


def _worker(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(400, f"{text[:60]!r} is not the number of a worker")
    return int(text)


def queue_entity(queue: QueueOverview) -> QueueEntity:
    stats, pause = queue.stats, queue.pause
    return {
        "name": stats.queue,
        "pausedAt": stamp_or_none(pause.paused_at if pause else None),
        "pausedBy": pause.paused_by if pause else None,
        "pending": stats.pending,
        "processing": stats.processing,
        "retrying": stats.retrying,
        "completed": stats.completed,
        "failed": stats.failed,
        "cancelled": stats.cancelled,
        "oldestSeconds": queue.oldest.total_seconds() if queue.oldest is not None else None,
        "limits": _limits(queue.limits) if queue.limits else None,
    }


def _limits(limits: Limits) -> LimitsEntity:
    return {
        "concurrency": limits.concurrency,
        "rate": str(limits.rate) if limits.rate else None,
        "key": limits.key,
        "perKey": limits.per_key,
        "perKeyRate": str(limits.per_key_rate) if limits.per_key_rate else None,
    }


def worker_entity(worker: WorkerRow) -> WorkerEntity:
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "types": worker.types,
        "queues": worker.queues,
        "slots": worker.slots,
        "running": worker.running,
        "draining": worker.draining,
        "startedAt": stamp(worker.started_at),
        "seenAt": stamp(worker.seen_at),
    }


ROUTES = (
    get("/api/queues", find, QueueList),
    post("/api/queues/{name}/pause", pause, MessageAnswer),
    post("/api/queues/{name}/resume", resume, MessageAnswer),
    put("/api/queues/{name}/limits", limit, LimitsEntity, body=LimitsForm, role=Role.ADMIN),
    delete("/api/queues/{name}/limits", unlimit, MessageAnswer, role=Role.ADMIN),
    get("/api/workers", workers, WorkerList),
    put("/api/workers/{worker}/slots", resize, MessageAnswer, body=SlotsForm, role=Role.ADMIN, errors=(404,)),
    post("/api/workers/{worker}/drain", drain, MessageAnswer, role=Role.ADMIN, errors=(404,)),
)
