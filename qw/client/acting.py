"""Who acts: said once per program, command or request, and noted with every act. Light: `qw enqueue` imports it.

A namespace's method that changes something for an operator is marked with `audited`; what it was called with and how it
ended becomes a row of the audit. Acts inside of such an act are part of it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from uuid import UUID

from qw.core.errors import QwError

if TYPE_CHECKING:
    from qw.client.connections import Namespace

log = logging.getLogger(__name__)

LONGEST = 1000  # characters of a target or a detail

DONE = frozenset(
    {"retried", "cancelled", "asked", "requeued", "compensating", "forgotten"}
)  # of the answers of bulk methods


class Actor(NamedTuple):
    """``name`` None: the database role of the session. ``via``: cli, http, dashboard or python."""

    name: str | None
    via: str


_PROGRAM = Actor(None, "python")
_actor: ContextVar[Actor] = ContextVar("qw_actor", default=_PROGRAM)
_is_inside: ContextVar[bool] = ContextVar("qw_is_inside_an_act", default=False)

P = ParamSpec("P")
T = TypeVar("T")
N = TypeVar("N", bound="Namespace")


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """What is done within is done by *actor*."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


@contextmanager
def within_an_act() -> Iterator[None]:
    """What is done within is part of an act that is noted elsewhere."""
    token = _is_inside.set(True)
    try:
        yield
    finally:
        _is_inside.reset(token)


def audited(
    verb: str,
) -> Callable[[Callable[Concatenate[N, P], Awaitable[T]]], Callable[Concatenate[N, P], Coroutine[Any, Any, T]]]:
    """Mark a method as the act *verb*, which is that of the command line. A dry run is none."""

    def mark(method: Callable[Concatenate[N, P], Awaitable[T]]) -> Callable[Concatenate[N, P], Coroutine[Any, Any, T]]:
        @functools.wraps(method)
        async def act(self: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if _is_inside.get() or kwargs.get("dry_run"):
                return await method(self, *args, **kwargs)
            try:
                with within_an_act():
                    answer = await method(self, *args, **kwargs)
            except QwError as error:
                await note(self, verb, _target(args), error=error)
                raise
            await note(self, verb, _target(args), count=_count(answer))
            return answer

        return act

    return mark


async def note(
    namespace: Namespace, verb: str, target: str, *, count: int | None = None, error: QwError | None = None
) -> None:
    """Add a row to the audit. That it cannot be written undoes nothing, and is logged."""
    from qw.store import audit

    actor = _actor.get()
    try:
        async with namespace.connections.connection() as conn:
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
    except QwError as failure:
        if error is None:
            log.warning("act not noted in the audit", extra={"verb": verb, "error": str(failure)})


def _target(args: tuple[object, ...]) -> str:
    """Names and ids as they are, of several ids their number."""
    words = []
    for arg in args:
        if isinstance(arg, str | UUID | int) and not isinstance(arg, bool):
            words.append(str(arg))
        elif isinstance(arg, list | tuple | set | frozenset):
            ids = list(arg)
            words.append(str(ids[0]) if len(ids) == 1 else f"{len(ids):,} tasks")
        elif isinstance(name := getattr(arg, "name", None), str):
            words.append(name)
    return " ".join(words)


def _count(answer: object) -> int | None:
    if isinstance(answer, Mapping) and all(isinstance(each, str) for each in answer.values()):
        return sum(each in DONE for each in answer.values())
    if isinstance(answer, list):
        return len(answer)
    return answer if isinstance(answer, int) and not isinstance(answer, bool) else None
