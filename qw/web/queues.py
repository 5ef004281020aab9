"""Queues, paused and resumed; and the workers that serve them."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from qw.client import operating
from qw.client.operating import Queue
from qw.store.workers import Worker
from qw.web.entity import stamp, stamp_or_none
from qw.web.errors import Problem
from qw.web.fields import Stamp
from qw.web.route import Call, get, post
from qw.web.tasks import Message


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


class Queues(TypedDict):
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


class Workers(TypedDict):
    workers: list[WorkerEntity]


async def find(call: Call[None, None]) -> Queues:
    """The queues that had a task or are paused, by name."""
    return {"queues": [_queue(queue) for queue in await operating.list_queues(call.client)]}


async def pause(call: Call[None, None]) -> Message:
    """Let nothing more be claimed from a queue; what runs goes on."""
    await operating.pause_queue(call.client, call.path["name"], by=call.caller)
    return {"message": f"Queue {call.path['name']} paused"}


async def resume(call: Call[None, None]) -> Message:
    """Let the tasks of a queue be claimed again."""
    name = call.path["name"]
    was_paused = await operating.resume_queue(call.client, name)
    return {"message": f"Queue {name} resumed" if was_paused else f"Queue {name} was not paused"}


async def workers(call: Call[None, None]) -> Workers:
    """The workers that live, the newest first."""
    return {"workers": [_worker(worker) for worker in await call.client.workers()]}


async def drain(call: Call[None, None]) -> Message:
    """Ask a worker to claim nothing more, end what it runs, and stop."""
    text = call.path["worker"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(400, f"{text[:60]!r} is not the number of a worker")
    await operating.drain_worker(call.client, int(text))
    return {"message": f"Worker {text} asked to drain"}


def _queue(queue: Queue) -> QueueEntity:
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
    }


def _worker(worker: Worker) -> WorkerEntity:
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
    get("/api/queues", find, Queues),
    post("/api/queues/{name}/pause", pause, Message),
    post("/api/queues/{name}/resume", resume, Message),
    get("/api/workers", workers, Workers),
    post("/api/workers/{worker}/drain", drain, Message, errors=(404,)),
)
