"""Checks new tasks against the types that workers have registered, which a client reads again from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from qw.core.errors import Fault
from qw.core.task import NewTask
from qw.core.task.payload import JsonObject, raise_faults
from qw.task_check import LastKnown

Read = Callable[[], Awaitable[dict[str, JsonObject | None]]]
"""Reads the types and their schemas from the database."""


class TypeCheck:
    """Raises Invalid for a task that no worker would run."""

    def __init__(self) -> None:
        self._last = LastKnown()
        self._reading = asyncio.Lock()

    async def one(self, task: NewTask, read: Read) -> None:
        if not self._last.accepts(task):
            raise_faults(iter(await self._faults(task, read)))

    async def many(self, tasks: Sequence[NewTask], first: int, read: Read) -> None:
        """Check a batch. *first*: the index of its first task among all tasks of the caller, for the error."""
        for number, task in enumerate(tasks, first):
            if not self._last.accepts(task):
                raise_faults(_placed(number, fault) for fault in await self._faults(task, read))

    async def _faults(self, task: NewTask, read: Read) -> list[Fault]:
        async with self._reading:
            if self._last.accepts(task):  # another caller has read the types meanwhile
                return []
            self._last.learn(await read())
            return self._last.faults(task)


def _placed(number: int, fault: Fault) -> Fault:
    place = f"tasks[{number}]"
    return Fault(path=f"{place}.{fault.path}" if fault.path else place, message=fault.message)
