"""`Handlers`: maps task types to functions. It is passed to the daemon; there is no global registry.

    app = Handlers()

    @app.handler("resize")
    async def resize(path: str, width: int = 100, *, context: Context) -> dict[str, str]:
        await context.log(f"resizing {path}")
        ...

A handler takes the payload as keyword arguments (validated against its annotations), as one pydantic model, or as a
dict in a parameter named ``payload``; a parameter named ``context`` receives the `Context`. The return value is the
task's result and must be JSON-serializable. Async functions run in the event loop, plain functions in a thread;
``process=True`` runs a plain function in its own process, which can be killed. If a plain function returns an
awaitable it is awaited, because a decorator may hide that a function is async.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias, TypeVar, cast

from qw.core.errors import Invalid
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, Backoff, Policy, name_faults
from qw.core.task.handler_api import Context, Misfit, Recorded, Reject
from qw.core.task.payload import Json, JsonObject
from qw.handlers.binding import Arguments, binding, is_async, name_of, refuse, takes_context
from qw.handlers.task_function import TaskDecorator, TaskFunction, TaskSettings

Function = TypeVar("Function", bound=Callable[..., Any])
Compensation: TypeAlias = Callable[[Context, Recorded], Awaitable[Json]]


class HandlerKind(StrEnum):
    """Where a handler runs, which determines the concurrency slots it uses."""

    ASYNC = "async"
    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A task type and its function. ``arguments`` makes the keyword arguments of ``function`` from a context.

    ``runs_in_loop``: it is a coroutine function, whatever slots it uses.
    ``compensate`` undoes a completed task of this type. ``schema``: JSON Schema of the payload; None: not restricted.
    """

    type: str
    function: Callable[..., Any]
    arguments: Arguments
    kind: HandlerKind
    runs_in_loop: bool
    policy: Policy
    schema: JsonObject | None
    compensate: Compensation | None

    @cached_property
    def version(self) -> str:
        """A hash of the payload schema: it differs between application versions with different payloads."""
        return hashlib.sha256(json.dumps(self.schema, sort_keys=True).encode()).hexdigest()[:16]


class Handlers:
    """A collection of handlers by task type."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def handler(
        self,
        type: str,
        *,
        max_retries: int = 3,
        timeout: timedelta | float | None = timedelta(minutes=5),
        backoff: Backoff | None = None,
        process: bool = False,
        slots: HandlerKind | None = None,
        compensate: Compensation | None = None,
        strict: bool = False,
    ) -> Callable[[Function], Function]:
        """Register the decorated function for *type*.

        *max_retries* counts all attempts, including the first. *timeout* limits each attempt: a timedelta or seconds,
        None: no limit. *backoff*: the delays between attempts; None: `Backoff()`.
        *slots*: the concurrency slots to use if not those of where it runs, as for a coroutine that starts a process.
        *compensate*: a coroutine function that undoes a completed task.
        *strict*: an invalid payload fails the task at once; otherwise the task is left to a worker with another version
        of the handler, or retried.
        Raise Invalid for a second handler of a type, and for a function that cannot be a handler: a generator, a class,
        ``process=True`` with ``async def``.
        """
        policy = _policy(max_retries, timeout, backoff)

        def register(function: Function) -> Function:
            self._add(type, function, function, policy, process, slots, compensate, strict)
            return function

        return register

    def task(
        self,
        *,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        max_retries: int = 3,
        timeout: timedelta | float | None = timedelta(minutes=5),
        backoff: Backoff | None = None,
        process: bool = False,
        slots: HandlerKind | None = None,
        compensate: Compensation | None = None,
        strict: bool = False,
    ) -> TaskDecorator:
        """Register the decorated function under its name, or *name*, and replace it by a `TaskFunction`.

        *queue* and *priority* are the defaults of its tasks; `TaskFunction.options` overrides them. The other
        parameters and errors are those of `handler`.
        """
        policy = _policy(max_retries, timeout, backoff)
        settings = TaskSettings(queue=queue, priority=priority)

        def register(function: Callable[..., Any]) -> TaskFunction[..., ..., Any]:
            type = name or str(getattr(function, "__name__", ""))
            if faults := name_faults("name", type):
                raise Invalid(f"{faults[0]}: give the task one, @app.task(name=…), for {name_of(function)}")
            task: TaskFunction[..., ..., Any] = TaskFunction(type, function, settings)
            task.payload = self._add(type, function, task, policy, process, slots, compensate, strict)
            return task

        return cast("TaskDecorator", register)

    def _add(
        self,
        type: str,
        function: Callable[..., Any],
        public: Callable[..., Any],
        policy: Policy,
        process: bool,
        slots: HandlerKind | None,
        compensate: Compensation | None,
        strict: bool,
    ) -> Callable[..., JsonObject]:
        """Register *function*. *public* is the object under its name in its module, as another process imports it."""
        if type in self._handlers:
            raise Invalid(f"two handlers for the type {type!r}")
        bound = binding(type, function)
        runs_in_loop = is_async(function)
        kind = _kind(type, function, process, runs_in_loop)
        self._handlers[type] = Handler(
            type=type,
            function=public if kind is HandlerKind.PROCESS else function,
            arguments=_strict(bound.arguments) if strict else bound.arguments,
            kind=slots or kind,
            runs_in_loop=runs_in_loop,
            policy=policy,
            schema=bound.schema,
            compensate=compensate,
        )
        return bound.payload

    def include(self, other: Handlers) -> None:
        """Add the handlers of *other*; they replace handlers of the same type."""
        self._handlers.update(other._handlers)

    def get(self, type: str) -> Handler | None:
        return self._handlers.get(type)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)


def _policy(max_retries: int, timeout: timedelta | float | None, backoff: Backoff | None) -> Policy:
    limit = timeout if timeout is None or isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    return Policy(max_retries=max_retries, timeout=limit, backoff=backoff or Backoff())


def _strict(arguments: Arguments) -> Arguments:
    def checked(context: Context) -> dict[str, Any]:
        try:
            return arguments(context)
        except Misfit as misfit:
            raise Reject(str(misfit)) from None

    return checked


def _kind(type: str, function: Callable[..., Any], process: bool, runs_in_loop: bool) -> HandlerKind:
    if not process:
        return HandlerKind.ASYNC if runs_in_loop else HandlerKind.THREAD
    if runs_in_loop:
        raise refuse(type, function, "is async, and process=True runs a plain function (def); choose one of them")
    if takes_context(function):
        raise refuse(type, function, "runs in a process of its own (process=True), where it cannot have a context")
    return HandlerKind.PROCESS
