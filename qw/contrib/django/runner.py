"""The handlers of a Django project: one for each task that uses a `QwBackend`."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from collections.abc import Callable
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections
from django.utils.module_loading import autodiscover_modules, import_string

from qw.contrib.django.backend import QwBackend, known
from qw.contrib.django.compat import (
    TaskContext,
    TaskResult,
    TaskResultStatus,
    task_backends,
    task_finished,
    task_started,
)
from qw.core.task.checkpoint import Suspend
from qw.core.task.handler_api import Context, Misfit, Reject, Snooze
from qw.handlers import Handlers

WORKER = f"{socket.gethostname()}:{os.getpid()}"


def handlers() -> Handlers:
    """Handlers for the tasks in the ``tasks`` module of every installed application, and in all other imported
    modules.
    """
    if not apps.ready:
        django.setup()
    autodiscover_modules("tasks")
    app = Handlers()
    for type in sorted(known):
        task = import_string(type)
        backend = task_backends[task.backend]
        if isinstance(backend, QwBackend):
            _add(app, type, task, backend)
    return app


def _add(app: Handlers, type: str, task: Any, backend: QwBackend) -> None:
    max_retries = backend.options.get("max_retries", 3)
    options = {"max_retries": max_retries, "timeout": backend.options.get("timeout", 300)}
    run = _coroutine if inspect.iscoroutinefunction(task.func) else _function
    app.handler(type, **options)(run(task, backend, max_retries))


def _function(task: Any, backend: QwBackend, max_retries: int) -> Callable[..., Any]:
    def run(context: Context, args: list[Any], kwargs: dict[str, Any]) -> Any:
        result = _running(task, backend, context, args, kwargs)
        try:
            task_started.send(type(backend), task_result=result)
            value = task.func(*_given(task, result), **result.kwargs)
            task_finished.send(type(backend), task_result=_ended(result, value))
            return value
        except BaseException as error:
            if _is_final(error, context, max_retries):
                task_finished.send(type(backend), task_result=_failed(result))
            raise
        finally:
            connections.close_all()  # of this thread, which ends now

    return run


def _coroutine(task: Any, backend: QwBackend, max_retries: int) -> Callable[..., Any]:
    async def run(context: Context, args: list[Any], kwargs: dict[str, Any]) -> Any:
        result = _running(task, backend, context, args, kwargs)
        try:
            await task_started.asend(type(backend), task_result=result)
            value = await task.func(*_given(task, result), **result.kwargs)
            await task_finished.asend(type(backend), task_result=_ended(result, value))
            return value
        except BaseException as error:
            if _is_final(error, context, max_retries):
                await task_finished.asend(type(backend), task_result=_failed(result))
            raise
        finally:
            await sync_to_async(django.db.close_old_connections)()

    return run


def _running(task: Any, backend: QwBackend, context: Context, args: list[Any], kwargs: dict[str, Any]) -> TaskResult:
    return TaskResult(
        task=task, id=str(context.task_id), status=TaskResultStatus.RUNNING, enqueued_at=None, started_at=None,
        last_attempted_at=None, finished_at=None, args=args, kwargs=kwargs, backend=backend.alias, errors=[],
        worker_ids=[WORKER] * context.attempt,
    )  # fmt: skip


def _given(task: Any, result: TaskResult) -> list[Any]:
    return [TaskContext(task_result=result), *result.args] if task.takes_context else list(result.args)


def _ended(result: TaskResult, value: object) -> TaskResult:
    object.__setattr__(result, "status", TaskResultStatus.SUCCESSFUL)
    object.__setattr__(result, "_return_value", value)
    return result


def _failed(result: TaskResult) -> TaskResult:
    object.__setattr__(result, "status", TaskResultStatus.FAILED)
    return result


def _is_final(error: BaseException, context: Context, max_retries: int) -> bool:
    """Whether this is the last attempt."""
    if isinstance(error, Reject):
        return not isinstance(error, Misfit)
    return not isinstance(error, Snooze | Suspend | asyncio.CancelledError) and context.attempt >= max_retries
