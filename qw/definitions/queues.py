"""Queues declared under ``queues:``."""

from __future__ import annotations

from collections.abc import Callable

from qw.core.errors import Fault, Invalid
from qw.core.expression.evaluation import kind
from qw.core.parsing import refuse_unknown
from qw.core.queue import Queue
from qw.core.queue.limits import FIELDS, Limits, parse_limits
from qw.core.task import name_faults
from qw.core.task.payload import Json, JsonObject

_KEYS = ("paused", *FIELDS)


def parse_queue(name: str, document: Json, where: Callable[[str], str]) -> Queue:
    """The queue in *document*. Raise Invalid with every fault."""
    faults = name_faults("", name)
    queue = _queue(name, {} if document is None else document, faults)
    if faults or queue is None:
        raise Invalid(*(Fault(path=where(fault.path), message=fault.message) for fault in faults))
    return queue


def _queue(name: str, document: Json, faults: list[Fault]) -> Queue | None:
    if not isinstance(document, dict):
        faults.append(
            Fault(path="", message=f"a queue must be an object such as {{paused: true}}, not {kind(document)}")
        )
        return None
    refuse_unknown(document, _KEYS, "", "a queue", faults)
    return Queue(name=name, paused=_paused(document, faults), limits=_limits(document, faults))


def _paused(document: JsonObject, faults: list[Fault]) -> bool | None:
    value = document.get("paused")
    if value is None or isinstance(value, bool):
        return value
    faults.append(Fault(path="paused", message=f"must be true or false, not {kind(value)}"))
    return None


def _limits(document: JsonObject, faults: list[Fault]) -> Limits | None:
    said = {field: document[field] for field in FIELDS if field in document}
    return parse_limits(said, "", faults) if said else None
