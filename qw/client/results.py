"""The result of a final task, as JSON or as a Python type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from qw.core.errors import NotFound, TaskCancelled, TaskFailed
from qw.core.task import Status, Task
from qw.handlers.returned import validated


def result_of(ended: Sequence[Task], id: UUID, type: Any = None) -> Any:
    """Return the result of the final task *id* in *ended*, as *type*; None: as JSON. Raise TaskFailed, TaskCancelled,
    or NotFound if the task was removed meanwhile.
    """
    if not ended:
        raise NotFound(f"task {id} does not exist any more")
    (task,) = ended
    if task.status is Status.FAILED:
        raise TaskFailed(id=id, type=task.type, error=task.error or "", attempts=task.attempt)
    if task.status is Status.CANCELLED:
        raise TaskCancelled(id=id, type=task.type, reason=task.error or "")
    return task.result if type is None else validated(type, task.result, f"result of task {task.id} ({task.type})")
