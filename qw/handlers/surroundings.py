"""What an application puts around its handlers: middleware for each attempt, and a lifespan for the process."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeAlias

from qw.core.errors import Invalid
from qw.core.task.handler_api import Context
from qw.handlers.binding import is_async, name_of


class CallNext(Protocol):
    """Runs the next middleware, or finally the handler. A *context* replaces the one that they would get."""

    def __call__(self, context: Context | None = None, /) -> Awaitable[Any]: ...


Middleware: TypeAlias = Callable[[Context, CallNext], Awaitable[Any]]
Lifespan: TypeAlias = Callable[..., Any]
Call: TypeAlias = Callable[[Any], Awaitable[Any]]


class Surroundings:
    """Middleware and lifespan of one `Handlers` object. ``state``: what the open lifespan yielded, else None."""

    def __init__(self) -> None:
        self.middleware: list[Middleware] = []
        self._lifespan: Lifespan | None = None
        self.state: Any = None

    def add(self, function: Middleware) -> None:
        if not is_async(function):
            raise Invalid(f"middleware {name_of(function)}: write it as an async def (context, call_next)")
        self.middleware.append(function)

    def set_lifespan(self, function: Lifespan) -> None:
        if self._lifespan is not None:
            raise Invalid(f"two lifespans: {name_of(self._lifespan)} and {name_of(function)}")
        if inspect.isasyncgenfunction(function):
            self._lifespan = asynccontextmanager(function)
        elif inspect.isasyncgenfunction(inspect.unwrap(function)):
            self._lifespan = function
        else:
            raise Invalid(f"lifespan {name_of(function)}: write it as an async def that yields once")

    @property
    def has_lifespan(self) -> bool:
        return self._lifespan is not None

    @asynccontextmanager
    async def open(self, owner: object) -> AsyncIterator[None]:
        """Open the lifespan; ``state`` is set until the block ends. *owner*: passed to the lifespan if it takes it."""
        if self._lifespan is None:
            yield
            return
        args = (owner,) if inspect.signature(self._lifespan).parameters else ()
        manager: AbstractAsyncContextManager[Any] = self._lifespan(*args)
        async with manager as state:
            self.state = state
            try:
                yield
            finally:
                self.state = None


async def surrounded(layers: Sequence[Middleware], context: Any, call: Call) -> Any:
    """Return the result of *call*, run inside the middleware *layers*, outermost first.

    Raise Invalid if a middleware returns without calling the next one, because the handler did not run then.
    """
    if not layers:
        return await call(context)
    function, inner = layers[0], layers[1:]
    was_called = False

    async def call_next(replaced: Any = None, /) -> Any:
        nonlocal was_called
        was_called = True
        return await surrounded(inner, context if replaced is None else replaced, call)

    result = await function(context, call_next)
    if not was_called:
        raise Invalid(
            f"middleware {name_of(function)} returned without `await call_next()`, so that the handler did not run;"
            " to end an attempt without it, raise Snooze or Reject"
        )
    return result
