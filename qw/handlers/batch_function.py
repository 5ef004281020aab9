"""`BatchFunction`: a function that runs many tasks of its type in one call. The tasks are enqueued individually."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from qw.core.errors import Fault, Invalid
from qw.core.task import EnqueueOptions
from qw.core.task.handler_api import Context, Misfit
from qw.core.task.payload import Json, JsonObject
from qw.handlers.binding import hints_of, refuse
from qw.handlers.task_function import Enqueueable

Item = TypeVar("Item")

MAX_SIZE = 10_000
MAX_WAIT = timedelta(minutes=1)
CONTEXTS = "contexts"

Answers: TypeAlias = Sequence[Any] | None
"""One answer per item, in their order: its result, or the exception with which it fails. None: all are completed."""


class BatchDecorator(Protocol):
    """The return type of `Handlers.batch`."""

    def __call__(
        self,
        function: Callable[[list[Item]], Awaitable[Answers]]
        | Callable[[list[Item]], Answers]
        | Callable[[list[Item], list[Context]], Awaitable[Answers]]
        | Callable[[list[Item], list[Context]], Answers],
        /,
    ) -> BatchFunction[Item]: ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How tasks are batched: up to *size*, or when the first has waited *wait_seconds*. ``item`` parses a payload."""

    size: int
    wait_seconds: float
    item: Callable[[JsonObject], Any]
    takes_contexts: bool


class BatchFunction(Enqueueable[[Item], Json], Generic[Item]):
    """A function registered with `Handlers.batch`. Calling it calls the function directly, without the queue."""

    __name__: str

    def __init__(self, type: str, function: Callable[..., Any], options: EnqueueOptions) -> None:
        super().__init__(type, function, options, "error")
        functools.update_wrapper(cast("Callable[..., Any]", self), function)

    def returned(self, result: Json, what: str) -> Json:
        return result

    def __call__(self, items: list[Item], *contexts: list[Context]) -> Any:
        return self.function(items, *contexts)

    def __repr__(self) -> str:
        return f"<BatchFunction {self.type!r}: {self.function!r}>"


@dataclass(frozen=True, kw_only=True)
class BatchBinding:
    """The batch handler of a function. ``payload`` makes the payload of one item, as `Binding.payload` does."""

    batch: Batch
    payload: Callable[..., JsonObject]
    schema: JsonObject | None


def batch_binding(type: str, function: Callable[..., Any], size: int, wait: timedelta | float) -> BatchBinding:
    """Return the binding of a batch function. Raise Invalid if the function, *size* or *wait* is unsuitable."""
    longest = wait if isinstance(wait, timedelta) else timedelta(seconds=wait)
    if not 1 <= size <= MAX_SIZE:
        raise Invalid(f"batch of the type {type!r}: size: {size} is out of range; it may be 1 to {MAX_SIZE:,}")
    if not timedelta(0) <= longest <= MAX_WAIT:
        raise Invalid(f"batch of the type {type!r}: wait: {longest} is out of range; it may be 0 to {MAX_WAIT}")
    item, takes_contexts = _parameters(type, function)
    adapter = None if item is Any or get_origin(item) is dict or item is dict else _adapter(type, function, item)
    read = _any_object if adapter is None else functools.partial(_read, type, adapter)
    return BatchBinding(
        batch=Batch(size=size, wait_seconds=longest.total_seconds(), item=read, takes_contexts=takes_contexts),
        payload=functools.partial(_payload, type, adapter),
        schema=None if adapter is None else adapter.json_schema(),
    )


def _parameters(type: str, function: Callable[..., Any]) -> tuple[Any, bool]:
    """Return the type of an item, and whether the function takes the contexts of the tasks."""
    if not callable(function) or inspect.isclass(function):
        raise refuse(type, function, "is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise refuse(type, function, "is a generator function; use a function that returns its result")
    first, *rest = inspect.signature(function).parameters or [""]
    if not first or [name for name in rest if name != CONTEXTS]:
        raise refuse(
            type, function, f"must have one parameter for the list of items, and no others except {CONTEXTS!r}"
        )
    hint = hints_of(type, function).get(first, list)
    if hint is list:
        return Any, bool(rest)
    if get_origin(hint) not in (list, Sequence):
        raise refuse(type, function, f"has a parameter {first!r} that is not a list; a batch is a list of payloads")
    return get_args(hint)[0], bool(rest)


def _adapter(type: str, function: Callable[..., Any], item: Any) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(item)
        schema = adapter.json_schema()
    except Exception as error:
        raise refuse(type, function, f"has items that JSON cannot represent: {error}") from error
    if schema.get("type") != "object" and "$ref" not in schema:
        raise refuse(type, function, "has items that are not objects, as payloads must be; use a model or dict")
    return adapter


def _any_object(payload: JsonObject) -> JsonObject:
    return payload


def _read(type: str, adapter: TypeAdapter[Any], payload: JsonObject) -> Any:
    try:
        return adapter.validate_python(payload)
    except ValidationError as error:
        places = "; ".join(f"{_place(fault)}: {fault['msg']}" for fault in error.errors(include_url=False))
        raise Misfit(f"payload of {type}: {places}") from None


def _place(fault: Any) -> str:
    return ".".join(map(str, fault["loc"])) or "payload"


def _payload(type: str, adapter: TypeAdapter[Any] | None, item: Any) -> JsonObject:
    if adapter is None:
        return cast("JsonObject", item)
    try:
        checked = adapter.validate_python(item)
        made: JsonObject = adapter.dump_python(checked, mode="json", by_alias=True, round_trip=True, warnings="error")
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise Invalid(*(Fault(path=f"{type}.{_place(fault)}", message=fault["msg"]) for fault in faults)) from None
    except PydanticSerializationError as error:
        raise Invalid(Fault(path=type, message=f"cannot be stored as JSON: {error}")) from None
    return made


__all__ = ["Answers", "Batch", "BatchBinding", "BatchDecorator", "BatchFunction", "batch_binding"]
