"""Whether tasks are checked against what workers registered before they are stored; for every layer but `core`.

What is refused is refused by what the database says now; what is accepted may be so by what it said FRESH_SECONDS ago.
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
    """Whether to check: as *wanted*; None: as the environment says, by default yes."""
    if wanted is not None:
        return wanted
    if not (value := os.environ.get(VARIABLE)):
        return True
    try:
        return switch(value)
    except Invalid as error:
        raise Misconfigured(f"{VARIABLE}: {error}") from None


class LastKnown:
    """The types that a database had when they were read last. While no worker has registered any, all are accepted:
    a program may be deployed before its first worker.
    """

    def __init__(self) -> None:
        self._known: KnownTypes | None = None
        self._fresh_until = 0.0

    def accepts(self, task: NewTask) -> bool:
        """Whether *task* may be stored by what was read last. False: read again, and ask that."""
        return task.is_checked or (time.monotonic() < self._fresh_until and not self.faults(task))

    def faults(self, task: NewTask) -> list[Fault]:
        """Why no worker would run *task*, by what was read last."""
        return self._known.faults(task) if self._known else []

    def learn(self, schemas: Mapping[str, JsonObject | None]) -> None:
        has_had_workers = any(schema is not None for schema in schemas.values())  # a new database has types without
        self._known = KnownTypes(schemas) if has_had_workers else None
        self._fresh_until = time.monotonic() + FRESH_SECONDS
