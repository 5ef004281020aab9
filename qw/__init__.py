"""qw: a durable task queue in the PostgreSQL you already have."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qw._version import __version__

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.errors import (
        Conflict,
        Denied,
        Fault,
        Invalid,
        LacksRight,
        Misconfigured,
        NotFound,
        QwError,
        TaskCancelled,
        TaskFailed,
        TimedOut,
        Unavailable,
        Unreachable,
    )
    from qw.core.queue.limits import Limits, Rate
    from qw.core.task import Backoff, Enqueued, EnqueueOptions, NewTask, Status, Task
    from qw.core.task.answer import Answer, AnswerCode
    from qw.core.task.handler_api import Context, Reject, Retry, Snooze
    from qw.dbapi import enqueue
    from qw.handlers import BatchFunction, CallNext, Handlers, TaskFunction
    from qw.ids import new_id
    from qw.store.tasks import Filter

__all__ = [
    "Answer",
    "AnswerCode",
    "Backoff",
    "BatchFunction",
    "CallNext",
    "Client",
    "Conflict",
    "Context",
    "Denied",
    "EnqueueOptions",
    "Enqueued",
    "Fault",
    "Filter",
    "Handlers",
    "Invalid",
    "LacksRight",
    "Limits",
    "Misconfigured",
    "NewTask",
    "NotFound",
    "QwError",
    "Rate",
    "Reject",
    "Retry",
    "Snooze",
    "Status",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskFunction",
    "TimedOut",
    "Unavailable",
    "Unreachable",
    "__version__",
    "enqueue",
    "new_id",
]

_HOMES = {
    "Answer": "qw.core.task.answer",
    "AnswerCode": "qw.core.task.answer",
    "Backoff": "qw.core.task",
    "BatchFunction": "qw.handlers",
    "CallNext": "qw.handlers",
    "Client": "qw.client",
    "Conflict": "qw.core.errors",
    "Context": "qw.core.task.handler_api",
    "Denied": "qw.core.errors",
    "EnqueueOptions": "qw.core.task",
    "Enqueued": "qw.core.task",
    "Fault": "qw.core.errors",
    "Filter": "qw.store.tasks",
    "Handlers": "qw.handlers",
    "Invalid": "qw.core.errors",
    "LacksRight": "qw.core.errors",
    "Limits": "qw.core.queue.limits",
    "Misconfigured": "qw.core.errors",
    "NewTask": "qw.core.task",
    "NotFound": "qw.core.errors",
    "QwError": "qw.core.errors",
    "Rate": "qw.core.queue.limits",
    "Reject": "qw.core.task.handler_api",
    "Retry": "qw.core.task.handler_api",
    "Snooze": "qw.core.task.handler_api",
    "Status": "qw.core.task",
    "Task": "qw.core.task",
    "TaskCancelled": "qw.core.errors",
    "TaskFailed": "qw.core.errors",
    "TaskFunction": "qw.handlers",
    "TimedOut": "qw.core.errors",
    "Unavailable": "qw.core.errors",
    "Unreachable": "qw.core.errors",
    "enqueue": "qw.dbapi",
    "new_id": "qw.ids",
}


def __getattr__(name: str) -> object:
    """Import a public name on first access, so that importing `qw` stays cheap for the command line."""
    if name not in _HOMES:
        raise AttributeError(f"module 'qw' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
