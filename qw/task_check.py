"""Checks new tasks against the types that workers have registered, before they are stored; for every layer but `core`.

A task is rejected only by freshly read types. It may be accepted by types that were read up to FRESH_SECONDS ago.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from qw.core.errors import Fault, Invalid, Misconfigured
from qw.core.switch import switch
from qw.core.task import NewTask
from qw.core.task.known_types import KnownTypes
from qw.core.task.payload import JsonObject

VARIABLE = "QW_CHECK_TASKS"
FRESH_SECONDS = 30.0


def is_on(wanted: bool | None = None) -> bool:
    """Whether to check tasks: *wanted*, or if that is None, the environment variable QW_CHECK_TASKS (default: yes)."""
    if wanted is not None:
        return wanted
    if not (value := os.environ.get(VARIABLE)):
        return True
    try:
        return switch(value)
    except Invalid as error:
        raise Misconfigured(f"{VARIABLE}: {error}") from None


class LastKnown:
    """The task types of a database, as last read. If no worker has registered any yet, all tasks are accepted, because
    a program may be deployed before its first worker.
    """

    def __init__(self) -> None:
        self._known: KnownTypes | None = None
        self._fresh_until = 0.0

    def accepts(self, task: NewTask) -> bool:
        """Whether the cached types are fresh and accept *task*. If False, read them again and check `faults`."""
        return task.is_checked or (time.monotonic() < self._fresh_until and not self.faults(task))

    def faults(self, task: NewTask) -> list[Fault]:
        """Return why no registered worker can run *task*, by the types last read; empty if one can."""
        return self._known.faults(task) if self._known else []

    def learn(self, schemas: Mapping[str, JsonObject | None]) -> None:
        has_had_workers = any(schema is not None for schema in schemas.values())  # all null in a new database
        self._known = KnownTypes(schemas) if has_had_workers else None
        self._fresh_until = time.monotonic() + FRESH_SECONDS
