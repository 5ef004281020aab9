"""`QwBackend`: enqueues tasks over Django's own connection, as part of the surrounding transaction."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.utils import timezone
from django.utils.module_loading import import_string

import qw
from qw.contrib.django.compat import (
    BaseTaskBackend,
    Task,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)
from qw.core.task import DEFAULT_PRIORITY
from qw.dbapi import enqueue_task

PRIORITY = "django-priority"  # header; qw has ten priorities, Django 201
_LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)")

_STATUS = {
    "pending": TaskResultStatus.READY,
    "retrying": TaskResultStatus.READY,
    "processing": TaskResultStatus.RUNNING,
    "completed": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
}

_TASK = """
select type, queue, payload::text, headers::text, status, attempt, created_at, started_at, finished_at, result::text,
       error, run_at, worker
  from qw.tasks where id = %s::text::uuid
"""
_ATTEMPTS = """
select a.attempt, a.error, a.worker, a.started_at,
       (select string_agg(l.message, e'\\n' order by l.id) from qw.task_log l
         where l.task_id = a.task_id and l.attempt = a.attempt and l.level = 'ERROR')
  from qw.attempt a
 where a.task_id = %s::text::uuid and a.outcome in ('error', 'timed_out', 'worker_died') order by a.attempt
"""
_LOG = """
select string_agg(message, e'\\n' order by id) from qw.task_log
 where task_id = %s::text::uuid and attempt = %s and level = 'ERROR'
"""

known: dict[str, Callable[..., Any]] = {}
"""The functions of all tasks of this backend by type. Django has no list of its own, but shows each to its backend."""


class QwBackend(BaseTaskBackend):  # type: ignore[misc]  # Django comes without types
    """Options: ``database`` (an alias, ``default``), ``max_retries`` (3), ``timeout`` (seconds, 300; None: none)."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.database: str = self.options.get("database", "default")

    def validate_task(self, task: Task) -> None:
        super().validate_task(task)
        known[task.module_path] = task.func

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Enqueue in the open transaction of this thread, if there is one; else commit at once."""
        self.validate_task(task)
        made = _result(task, self.alias, id="", status=TaskResultStatus.READY, args=list(args), kwargs=dict(kwargs))
        new = qw.NewTask(
            type=task.module_path,
            id=qw.new_id(),
            payload={"args": made.args, "kwargs": made.kwargs},
            queue=task.queue_name,
            priority=priority_of(task.priority),
            run_at=_aware(task.run_after),
            headers={PRIORITY: str(task.priority)} if task.priority else None,
            is_checked=True,  # Django's workers import a function when its task comes: they register none
        )
        id = enqueue_task(connections[self.database], new, makes_id=True)
        object.__setattr__(made, "id", str(id))
        object.__setattr__(made, "enqueued_at", timezone.now())
        task_enqueued.send(type(self), task_result=made)
        return made

    def get_result(self, result_id: str) -> TaskResult:
        """Return the stored state of a task. Raise TaskResultDoesNotExist also for tasks that Django did not
        enqueue.
        """
        try:
            UUID(result_id)
        except ValueError:
            raise TaskResultDoesNotExist(result_id) from None
        with connections[self.database].cursor() as cursor:
            cursor.execute(_TASK, [result_id])
            row = cursor.fetchone()
            if row is None:
                raise TaskResultDoesNotExist(result_id)
            cursor.execute(_ATTEMPTS, [result_id])
            attempts = cursor.fetchall()
            cursor.execute(_LOG, [result_id, row[5]])
            (last_log,) = cursor.fetchone()
        return self._found(result_id, row, attempts, last_log)

    def _found(
        self, id: str, row: tuple[Any, ...], attempts: list[tuple[Any, ...]], last_log: str | None
    ) -> TaskResult:
        type, queue, payload, headers, status, _, created, started, finished, result, error, run_at, worker = row
        given, kept = json.loads(payload), json.loads(headers or "{}")
        errors = [_error(error, log) for _, error, _, _, log in attempts]
        workers = [str(worker) for _, _, worker, _, _ in attempts]
        first = min((at for _, _, _, at, _ in attempts if at), default=started)
        if status in ("failed", "cancelled") and error is not None:
            errors.append(_error(error, last_log))
        if worker is not None:
            workers.append(str(worker))
        task = Task(
            func=self._function(id, type),
            priority=int(kept.get(PRIORITY, 0)),
            queue_name=queue,
            backend=self.alias,
            run_after=run_at if status == "pending" else None,
            takes_context=getattr(self._task(type), "takes_context", False),
        )
        found = _result(
            task, self.alias, id=id, status=_STATUS[status], args=given.get("args", []), kwargs=given.get("kwargs", {}),
            enqueued_at=created, started_at=first, last_attempted_at=started or first, finished_at=finished,
            errors=errors, worker_ids=workers,
        )  # fmt: skip
        object.__setattr__(found, "_return_value", json.loads(result) if result else None)
        return found

    def _task(self, type: str) -> Any:
        try:
            return import_string(type)
        except ImportError:
            return None

    def _function(self, id: str, type: str) -> Callable[..., Any]:
        found = self._task(type)
        if not isinstance(found, Task):
            raise TaskResultDoesNotExist(id)
        return found.func  # type: ignore[no-any-return]


def priority_of(priority: int) -> int:
    """Convert a Django priority (100 first, -100 last) to a qw priority (0 first, 9 last). Django's 0 becomes the
    default of qw.
    """
    if priority >= 0:
        return DEFAULT_PRIORITY - math.ceil(priority * DEFAULT_PRIORITY / 100)
    return DEFAULT_PRIORITY + math.ceil(-priority * (9 - DEFAULT_PRIORITY) / 100)


def _aware(at: datetime | None) -> datetime | None:
    return timezone.make_aware(at) if at is not None and timezone.is_naive(at) else at


def _result(task: Task, backend: str, **given: Any) -> TaskResult:
    times = dict.fromkeys(("enqueued_at", "started_at", "last_attempted_at", "finished_at"))
    return TaskResult(task=task, backend=backend, **{**times, "errors": [], "worker_ids": [], **given})


def _error(error: str | None, log: str | None) -> TaskError:
    """Build the error from *log*: the traceback, whose last line starts with the path of the exception class."""
    lines = [line for line in (log or "").splitlines() if not line.startswith(" ")]
    names = [match[1] for line in reversed(lines) if (match := _LAST_LINE.match(line))]
    path = next((name for name in names if _is_class(name)), "Exception")
    return TaskError(
        exception_class_path=path if "." in path else f"builtins.{path}", traceback=log or str(error or "")
    )


def _is_class(name: str) -> bool:
    try:
        value = import_string(name if "." in name else f"builtins.{name}")
    except ImportError:
        return False
    return isinstance(value, type) and issubclass(value, BaseException)
