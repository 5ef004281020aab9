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
awaitable, it is awaited, because a decorator may hide that a function is async.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar, cast

from qw.core.errors import Invalid, among
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, Backoff, Policy, name_faults
from qw.core.task.handler_api import Context, Misfit, Recorded, Reject
from qw.core.task.payload import Json, JsonObject
from qw.handlers.batch_function import Batch, BatchDecorator, BatchFunction, batch_binding
from qw.handlers.binding import Arguments, binding, is_async, name_of, refuse, takes_context
from qw.handlers.periodic import document_of, parse
from qw.handlers.surroundings import Lifespan, Middleware, Surroundings
from qw.handlers.task_function import C, P, R, TaskDecorator, TaskFunction

Function = TypeVar("Function", bound=Callable[..., Any])
T = TypeVar("T")
Given = TypeVar("Given")
Compensation: TypeAlias = Callable[[Context, Recorded], Awaitable[Json]]


MiddlewareFunction = TypeVar("MiddlewareFunction", bound=Middleware)
LifespanFunction = TypeVar("LifespanFunction", bound=Lifespan)


class Inherited(Enum):
    """The default of an option that a handler inherits from its `Handlers` object."""

    INHERITED = "inherited"


INHERITED = Inherited.INHERITED


class HandlerKind(StrEnum):
    """Where a handler runs, which determines the concurrency slots it uses."""

    ASYNC = "async"
    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A task type and its function. ``arguments`` makes the keyword arguments of ``function`` from a context.

    ``runs_in_loop``: the function is a coroutine function, whatever slots it uses. ``compensate``: undoes a completed
    task of this type. ``schema``: the JSON Schema of the payload; None: unrestricted. ``around``: middleware and
    lifespan of the `Handlers` objects that contain the handler, outermost first. ``captures``: the minimum level of
    `logging` records that are copied to the task's log; None: no records. ``batch``: how tasks are batched, if
    ``function`` takes many at once (``arguments`` is then not used).
    """

    type: str
    function: Callable[..., Any]
    arguments: Arguments
    kind: HandlerKind
    runs_in_loop: bool
    policy: Policy
    schema: JsonObject | None
    compensate: Compensation | None
    around: tuple[Surroundings, ...] = ()
    captures: int | None = None
    batch: Batch | None = None

    @cached_property
    def middleware(self) -> tuple[Middleware, ...]:
        """The middleware functions around the handler, outermost first."""
        return tuple(function for surroundings in self.around for function in surroundings.middleware)

    @cached_property
    def is_direct(self) -> bool:
        """Whether an attempt only calls the coroutine function, without middleware."""
        return self.runs_in_loop and not self.middleware

    @property
    def state(self) -> Any:
        """What the lifespan of its application yielded; of nested applications, the innermost that has one."""
        return next((surroundings.state for surroundings in reversed(self.around) if surroundings.has_lifespan), None)

    @cached_property
    def version(self) -> str:
        """A hash of the payload schema: it differs between application versions whose payloads differ."""
        return hashlib.sha256(json.dumps(self.schema, sort_keys=True).encode()).hexdigest()[:16]


class Handlers:
    """A collection of handlers by task type."""

    def __init__(self, *, capture_logging: int | str | None = logging.INFO) -> None:
        """*capture_logging*: the minimum level, a number or name, of `logging` records that are copied to their task's
        log.

        None: no records are copied. Raise Invalid for an unknown level.
        """
        self._handlers: dict[str, Handler] = {}
        self._surroundings = Surroundings()
        self._included: list[Handlers] = []
        self._schedules: dict[str, JsonObject] = {}
        self._captures = _level(capture_logging)

    def middleware(self, function: MiddlewareFunction) -> MiddlewareFunction:
        """Run the decorated ``async def f(context, call_next)`` around every attempt; the first registered is the
        outermost.

        It must return the result of ``await call_next()``. An exception that it raises is an error of the attempt.
        Raise Invalid for a plain function.
        """
        self._surroundings.add(function)
        return function

    def lifespan(self, function: LifespanFunction) -> LifespanFunction:
        """Open the decorated async generator once per process, before the first task; close it after the last.

        The value that it yields is ``context.state``. It may take one parameter, which receives this object. Raise
        Invalid for a second lifespan.
        """
        self._surroundings.set_lifespan(function)
        return function

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the lifespans of this object, then those of the included objects. The daemon calls this."""
        async with self._surroundings.open(self), AsyncExitStack() as stack:
            for included in self._included:
                await stack.enter_async_context(included.opened())
            yield

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
        capture_logging: int | str | Inherited | None = INHERITED,
    ) -> Callable[[Function], Function]:
        """Register the decorated function for *type*.

        *max_retries*: the number of attempts, including the first. *timeout*: the limit of each attempt, a timedelta
        or seconds; None: no limit. *backoff*: the delays between attempts; None: `Backoff()`. *process*: run the
        function in its own process. *slots*: the concurrency slots to use, if not those of where the function runs, as
        for a coroutine that starts a process. *compensate*: a coroutine function that undoes a completed task.
        *strict*: an invalid payload fails the task at once; otherwise the task is left to a worker with another
        version of the handler, or waits for one up to 2 minutes before its attempts count. *capture_logging*: as for
        `Handlers`, for this handler only. Raise Invalid for a second handler of a type, and for a function that cannot
        be a handler: a generator, a class, ``process=True`` with ``async def``.
        """
        policy = _policy(max_retries, timeout, backoff)

        def register(function: Function) -> Function:
            self._add(type, function, function, policy, process, slots, compensate, strict, capture_logging)
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
        capture_logging: int | str | Inherited | None = INHERITED,
    ) -> TaskDecorator:
        """Register the decorated function under its name, or *name*, and replace it with a `TaskFunction`.

        *queue* and *priority* are the defaults of its tasks; `TaskFunction.options` overrides them. The other
        parameters and errors are those of `handler`.
        """
        policy = _policy(max_retries, timeout, backoff)

        def register(function: Callable[..., Any]) -> TaskFunction[..., ..., Any]:
            type = name or str(getattr(function, "__name__", ""))
            if faults := name_faults("name", type):
                raise Invalid(f"{faults[0]}: give the task one, @app.task(name=…), for {name_of(function)}")
            task: TaskFunction[..., ..., Any] = TaskFunction(type, function, {"queue": queue, "priority": priority})
            task.payload = self._add(type, function, task, policy, process, slots, compensate, strict, capture_logging)
            return task

        return cast("TaskDecorator", register)

    def batch(
        self,
        *,
        size: int = 100,
        wait: timedelta | float = 0.2,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        max_retries: int = 3,
        timeout: timedelta | float | None = timedelta(minutes=5),
        backoff: Backoff | None = None,
        strict: bool = False,
    ) -> BatchDecorator:
        """Register the decorated function for many tasks at once, and replace it with a `BatchFunction`.

        The function takes a list of up to *size* payloads. It is called when *size* tasks are claimed, or when the
        first has waited for *wait* (a timedelta or seconds). It returns one answer per item, in the same order: the
        task's result, or the exception with which the task fails; returning None completes all of them. If it raises
        an exception for several items, each half is tried again, until the item that causes it is alone; Retry and
        Snooze apply to all items instead. A second parameter ``contexts`` receives a list of `Context`, one per item.
        A call uses one slot. The other parameters are those of `task`.
        """
        policy = _policy(max_retries, timeout, backoff)

        def register(function: Callable[..., Any]) -> BatchFunction[Any]:
            type = name or str(getattr(function, "__name__", ""))
            if faults := name_faults("name", type):
                raise Invalid(f"{faults[0]}: give the batch one, @app.batch(name=…), for {name_of(function)}")
            self._refuse_second(type)
            bound = batch_binding(type, function, size, wait)
            item = _strict(bound.batch.item) if strict else bound.batch.item
            runs_in_loop = is_async(function)
            self._handlers[type] = Handler(
                type=type,
                function=function,
                arguments=lambda context: {},
                kind=HandlerKind.ASYNC if runs_in_loop else HandlerKind.THREAD,
                runs_in_loop=runs_in_loop,
                policy=policy,
                schema=bound.schema,
                compensate=None,
                around=(self._surroundings,),
                batch=replace(bound.batch, item=item),
            )
            made: BatchFunction[Any] = BatchFunction(type, function, {"queue": queue, "priority": priority})
            made.payload = bound.payload
            return made

        return cast("BatchDecorator", register)

    def periodic(
        self,
        cron: str | None = None,
        *,
        every: timedelta | None = None,
        timezone: str = "UTC",
        name: str | None = None,
        payload: JsonObject | None = None,
        seconds: bool = False,
        misfire: Literal["skip", "once", "all"] = "once",
        overlap: Literal["allow", "skip", "cancel"] = "allow",
        jitter: timedelta | None = None,
        description: str = "",
    ) -> Callable[[TaskFunction[P, C, R]], TaskFunction[P, C, R]]:
        """Enqueue a task of the decorated `TaskFunction` at each time of *cron*, or each interval *every*.

        Place it above ``@app.task()``. When a daemon starts, it stores the schedule under the name of its application,
        and removes schedules that the application no longer declares. *name*: the name of the schedule; None: the
        task's type. *payload*: the arguments of its tasks. *seconds*: the cron expression begins with a field for
        seconds. *misfire*: what to do about ticks that were missed while no daemon ran. *overlap*: what a tick does
        while the task of an earlier tick is unfinished. *jitter*: the maximum random delay of a tick. Raise Invalid
        for an invalid schedule.
        """

        def register(task: TaskFunction[P, C, R]) -> TaskFunction[P, C, R]:
            if not isinstance(task, TaskFunction):
                raise Invalid(f"periodic: {name_of(task)} is not a task; put @app.periodic above @app.task()")
            known_as = name or task.type
            if known_as in self._schedules:
                raise Invalid(f"two schedules {known_as!r}; name one of them: @app.periodic(…, name=…)")
            document = document_of(
                task, cron=cron, every=every, payload=payload, timezone=timezone, seconds=seconds, misfire=misfire,
                overlap=overlap, jitter=jitter, description=description,
            )  # fmt: skip
            parse(known_as, document)
            self._schedules[known_as] = document
            return task

        return register

    @property
    def schedules(self) -> Mapping[str, JsonObject]:
        """The documents of the schedules by name, as a definition file would contain them."""
        return MappingProxyType(self._schedules)

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
        capture_logging: int | str | Inherited | None,
    ) -> Callable[..., JsonObject]:
        """Register *function*. *public* is the object of that name in its module, which another process imports."""
        self._refuse_second(type)
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
            around=(self._surroundings,),
            captures=self._captures if isinstance(capture_logging, Inherited) else _level(capture_logging),
        )
        return bound.payload

    def _refuse_second(self, type: str) -> None:
        if type in self._handlers:
            raise Invalid(f"two handlers for the type {type!r}")

    def include(self, other: Handlers) -> None:
        """Add the handlers and schedules of *other*; its handlers replace those of the same type.

        The middleware of this object runs around that of *other*. The lifespan of *other* is opened after this
        object's. Raise Invalid if both have a schedule of the same name.
        """
        if both := sorted(self._schedules.keys() & other._schedules.keys()):
            raise Invalid(f"two schedules {both[0]!r}; name one of them: @app.periodic(…, name=…)")
        self._schedules |= other._schedules
        self._included.append(other)
        self._handlers.update(
            {
                handler.type: replace(handler, around=(self._surroundings, *handler.around))
                for handler in other._handlers.values()
            }
        )

    def get(self, type: str) -> Handler | None:
        return self._handlers.get(type)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)


def _level(level: int | str | None) -> int | None:
    if level is None or isinstance(level, int):
        return level
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        raise Invalid(f"capture_logging: {level!r} is not a level of logging{among(level.upper(), known)}")
    return known[level.upper()]


def _policy(max_retries: int, timeout: timedelta | float | None, backoff: Backoff | None) -> Policy:
    limit = timeout if timeout is None or isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    return Policy(max_retries=max_retries, timeout=limit, backoff=backoff or Backoff())


def _strict(read: Callable[[Given], T]) -> Callable[[Given], T]:
    def checked(value: Given) -> T:
        try:
            return read(value)
        except Misfit as misfit:
            raise Reject(str(misfit)) from None

    return checked


def _kind(type: str, function: Callable[..., Any], process: bool, runs_in_loop: bool) -> HandlerKind:
    if not process:
        return HandlerKind.ASYNC if runs_in_loop else HandlerKind.THREAD
    if runs_in_loop:
        raise refuse(type, function, "is async, but process=True needs a synchronous function (def)")
    if takes_context(function):
        raise refuse(type, function, "runs in a separate process (process=True), where it cannot have a context")
    return HandlerKind.PROCESS
