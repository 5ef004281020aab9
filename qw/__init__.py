"""qw: a durable task queue in the PostgreSQL you already have."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qw._version import __version__

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.errors import TaskCancelled, TaskFailed
    from qw.core.task import Backoff, NewTask
    from qw.core.task.handler_api import Context, Reject, Retry, Snooze
    from qw.dbapi import enqueue
    from qw.handlers import Handlers, TaskFunction
    from qw.ids import new_id

__all__ = [
    "Backoff",
    "Client",
    "Context",
    "Handlers",
    "NewTask",
    "Reject",
    "Retry",
    "Snooze",
    "TaskCancelled",
    "TaskFailed",
    "TaskFunction",
    "__version__",
    "enqueue",
    "new_id",
]

_HOMES = {
    "Backoff": "qw.core.task",
    "Client": "qw.client",
    "Context": "qw.core.task.handler_api",
    "Handlers": "qw.handlers",
    "NewTask": "qw.core.task",
    "Reject": "qw.core.task.handler_api",
    "Retry": "qw.core.task.handler_api",
    "Snooze": "qw.core.task.handler_api",
    "TaskCancelled": "qw.core.errors",
    "TaskFailed": "qw.core.errors",
    "TaskFunction": "qw.handlers",
    "enqueue": "qw.dbapi",
    "new_id": "qw.ids",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the command line starts with none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'qw' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
