"""Who acts: said once per program, command or request, and noted with every act. Light: `qw enqueue` imports it.

A namespace's method that changes something for an operator is marked with `audited`: what it was called with becomes a
row of the audit, in the transaction of the change. Acts inside of such an act are part of it.
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

LONGEST = 1000  # characters of a target or a detail


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
    """What is done within is done by *actor*."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


class Act:
    """What is being done. Each transaction of `Connections.operating` that does a part of it adds a row for that part,
    so that no part is committed without one."""

    def __init__(self, verb: str, target: str) -> None:
        self.verb = verb
        self.target = target
        self.count: int | None = None  # of what the present transaction does
        self.is_noted = False

    async def note(self, conn: Connection) -> None:
        """Add the row. What an act does further to nothing, or without counting, belongs to the first one."""
        if self.is_noted and not self.count:
            return
        await _add(conn, self.verb, self.target, count=self.count)
        self.count, self.is_noted = None, True


@contextmanager
def doing(verb: str, target: str) -> Iterator[Act]:
    """What is done within is the act *verb*."""
    act = Act(verb, target)
    token = _act.set(act)
    try:
        yield act
    finally:
        _act.reset(token)


@asynccontextmanager
async def noted(conn: Connection) -> AsyncIterator[None]:
    """What is done with *conn* within is one transaction with its row, where an act is being done."""
    if (act := _act.get()) is None:
        yield
        return
    async with conn.transaction():
        yield
        await act.note(conn)


def counted(number: int) -> None:
    """Say, in a transaction of the act, how many it was done to."""
    if act := _act.get():
        act.count = (act.count or 0) + number


def audited(
    verb: str,
) -> Callable[[Callable[Concatenate[N, P], Awaitable[T]]], Callable[Concatenate[N, P], Coroutine[Any, Any, T]]]:
    """Mark a method as the act *verb*, which is that of the command line. A dry run is none.

    It makes its changes with `Connections.operating`, and raises within it what refuses the act.
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
            if not current.is_noted:  # there was nothing to do
                await note(self, verb, target, count=0)
            return answer

        return act

    return mark


async def note(
    namespace: Connected, verb: str, target: str, *, count: int | None = None, error: QwError | None = None
) -> None:
    """Add a row for what changed nothing: a look, or an act that was refused. Failing to is logged."""
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
    """Names and ids as they are, of several ids their number."""
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
