"""Support for tests of programs that use qw: real databases, a worker that runs on command, and a clock that can be
moved.

The package registers a pytest plugin (`qw.testing.plugin`) with the fixtures ``qw_database``, ``qw_client``,
``qw_worker``, ``qw_app`` and ``assert_enqueued``. The functions here work with other test frameworks too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qw.testing.assertions import AssertEnqueued, Found, assert_enqueued
    from qw.testing.clock import move_clock
    from qw.testing.database import TemplateDatabase, server, template
    from qw.testing.emptying import empty
    from qw.testing.handler_context import RecordingContext, blocking_context, context
    from qw.testing.manual_worker import ManualWorker, worker
    from qw.testing.workflow_tests import check_workflows

__all__ = [
    "AssertEnqueued",
    "Found",
    "ManualWorker",
    "RecordingContext",
    "TemplateDatabase",
    "assert_enqueued",
    "blocking_context",
    "check_workflows",
    "context",
    "empty",
    "move_clock",
    "server",
    "template",
    "worker",
]

_HOMES = {
    "AssertEnqueued": "assertions",
    "Found": "assertions",
    "ManualWorker": "manual_worker",
    "RecordingContext": "handler_context",
    "TemplateDatabase": "database",
    "assert_enqueued": "assertions",
    "blocking_context": "handler_context",
    "check_workflows": "workflow_tests",
    "context": "handler_context",
    "empty": "emptying",
    "move_clock": "clock",
    "server": "database",
    "template": "database",
    "worker": "manual_worker",
}


def __getattr__(name: str) -> object:
    """Import a name on first access, because every run of pytest loads the plugin."""
    if name not in _HOMES:
        raise AttributeError(f"module 'qw.testing' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"qw.testing.{_HOMES[name]}"), name)
    return value
