"""Queues declared under ``queues:``."""

from __future__ import annotations

from collections.abc import Callable

from qw.core.fields import FLAG, Field, Object
from qw.core.parsing import raise_at
from qw.core.queue import Queue
from qw.core.queue.limits import LIMITS, Limits, together_faults
from qw.core.task import name_faults
from qw.core.task.payload import Json

QUEUE = Object(
    "a queue",
    {
        "paused": Field(FLAG, "If true, no tasks are claimed from the queue; omitted: the current state is kept"),
        **LIMITS.fields,
    },
    ref="queue",
    must="a queue must be an object such as {paused: true}",
)


def parse_queue(name: str, document: Json, where: Callable[[str], str]) -> Queue:
    """Return the queue in *document*. Raise Invalid with all faults."""
    faults = name_faults("", name)
    fields = QUEUE.read({} if document is None else document, "", faults)
    paused = fields.pop("paused")
    limits = Limits(**fields) if any(fields.values()) else None
    faults += together_faults(limits, "") if limits else []
    raise_at(where, faults)
    return Queue(name=name, paused=paused, limits=limits)
