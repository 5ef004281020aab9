"""Records who performs operator actions: the actor is set once per program, command or request.

A namespace method that changes something for an operator is marked with `audited`: each transaction of the change adds
a row with the arguments to the audit. Actions nested in another action are part of the outer one. Imports little,
because `qw enqueue` imports this module.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar
from uuid import UUID

from qw.core.errors import QwError

if TYPE_CHECKING:
    from qw.store.connection import Connection

log = logging.getLogger(__name__)

LONGEST = 1000  # maximum characters of a target or a detail


class Actor(NamedTuple):
    """``name`` None: the database role of the session. ``via``: cli, http, dashboard or python."""

    name: str | None
    via: str


_PROGRAM = Actor(None, "python")
_actor: ContextVar[Actor] = ContextVar("qw_actor", default=_PROGRAM)
_act: ContextVar[Act | None] = ContextVar("qw_act", default=None)

P = ParamSpec("P")
T = TypeVar("T")


class Connected(Protocol):
    """A namespace of the client."""

    @property
    def connections(self) -> Any: ...


N = TypeVar("N", bound=Connected)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Attribute the actions within the block to *actor*."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


class Act:
    """An operator action in progress. Each transaction of `Connections.operating` adds an audit row for its part of
    the action, so that no part is committed without one.
    """

    def __init__(self, verb: str, target: str) -> None:
        self.verb = verb
        self.target = target
        self.count: int | None = None  # number of objects that the current transaction changed
        self.is_noted = False

    async def note(self, conn: Connection) -> None:
        """Add the audit row. After the first row, a transaction that changed or counted nothing adds none."""
        if self.is_noted and not self.count:
            return
        await _add(conn, self.verb, self.target, count=self.count)
        self.count, self.is_noted = None, True


@contextmanager
def doing(verb: str, target: str) -> Iterator[Act]:
    """Treat everything within the block as the action *verb* on *target*."""
    act = Act(verb, target)
    token = _act.set(act)
    try:
        yield act
    finally:
        _act.reset(token)


@asynccontextmanager
async def noted(conn: Connection) -> AsyncIterator[None]:
    """Within an action, run the block in one transaction together with its audit row; otherwise just run it."""
    if (act := _act.get()) is None:
        yield
        return
    async with conn.transaction():
        yield
        await act.note(conn)


def counted(number: int) -> None:
    """Add *number* to the count in the audit row of the current transaction."""
    if act := _act.get():
        act.count = (act.count or 0) + number


def audited(
    verb: str,
) -> Callable[[Callable[Concatenate[N, P], Awaitable[T]]], Callable[Concatenate[N, P], Coroutine[Any, Any, T]]]:
    """Mark a method as the action *verb*, named as on the command line. A dry run is not recorded.

    The method must make its changes on a connection from `Connections.operating`, and raise within that block if the
    action is refused.
    """

    def mark(method: Callable[Concatenate[N, P], Awaitable[T]]) -> Callable[Concatenate[N, P], Coroutine[Any, Any, T]]:
        @functools.wraps(method)
        async def act(self: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if _act.get() or kwargs.get("dry_run"):
                return await method(self, *args, **kwargs)
            target = _target(args)
            try:
                with doing(verb, target) as current:
                    answer = await method(self, *args, **kwargs)
            except QwError as error:
                await note(self, verb, target, error=error)
                raise
            if not current.is_noted:  # there was nothing to change
                await note(self, verb, target, count=0)
            return answer

        return act

    return mark


async def note(
    namespace: Connected, verb: str, target: str, *, count: int | None = None, error: QwError | None = None
) -> None:
    """Add an audit row for an action that changed nothing: a read, or a refused action. A failure is only logged."""
    try:
        async with namespace.connections.connection() as conn:
            await _add(conn, verb, target, count=count, error=error)
    except QwError as failure:
        if error is None:
            log.warning("act not noted in the audit", extra={"verb": verb, "error": str(failure)})


async def _add(
    conn: Connection, verb: str, target: str, *, count: int | None = None, error: QwError | None = None
) -> None:
    from qw.store import audit

    actor = _actor.get()
    await audit.add(
        conn,
        actor=actor.name,
        via=actor.via,
        verb=verb,
        target=target[:LONGEST],
        count=count,
        outcome="done" if error is None else "refused",
        detail=None if error is None else str(error)[:LONGEST],
    )


def _target(args: tuple[object, ...]) -> str:
    """The names and ids among *args*; a list of several ids is replaced by its length."""
    words = []
    for arg in args:
        if isinstance(arg, str | UUID | int) and not isinstance(arg, bool):
            words.append(str(arg))
        elif isinstance(arg, list | tuple | set | frozenset):
            words.append(_several(list(arg)))
        elif isinstance(name := getattr(arg, "name", None), str):
            words.append(name)
    return " ".join(filter(None, words))


def _several(items: list[object]) -> str:
    sources = [source for item in items if isinstance(source := getattr(item, "source", None), str)]
    if sources:
        return ", ".join(sources)
    if not all(isinstance(item, str | UUID | int) for item in items):
        return ""
    return str(items[0]) if len(items) == 1 else f"{len(items):,} tasks"
