"""The result of a final task, as JSON or as a Python type."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from pydantic import TypeAdapter, ValidationError

from qw.core.errors import Fault, Invalid, NotFound, TaskCancelled, TaskFailed
from qw.core.task import Status, Task


def result_of(found: Sequence[Task], id: UUID, type: Any = None) -> Any:
    """The result of the final task *id* in *found*, as *type*; None: as JSON. Raise TaskFailed or TaskCancelled."""
    if not found:
        raise NotFound(f"task {id} does not exist any more")
    (task,) = found
    if task.status is Status.FAILED:
        raise TaskFailed(id=id, type=task.type, error=task.error or "", attempts=task.attempt)
    if task.status is Status.CANCELLED:
        raise TaskCancelled(id=id, type=task.type, reason=task.error or "")
    return task.result if type is None else _value(task, type)


def _value(task: Task, type: Any) -> Any:
    try:
        return _adapter(type).validate_json(orjson.dumps(task.result))
    except ValidationError as error:
        place = f"result of task {task.id} ({task.type})"
        raise Invalid(
            *(
                Fault(path=".".join([place, *map(str, fault["loc"])]), message=fault["msg"])
                for fault in error.errors(include_url=False)
            )
        ) from None


@lru_cache(maxsize=256)
def _adapter(type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type)
