"""Abbreviated ids: resolves the beginning of an id, and names the command to use for an id of the other kind."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

from qw.client.connections import Connections
from qw.core.errors import Conflict, Fault, Invalid, NotFound
from qw.core.ids import prefix_of, short_length
from qw.store import tasks
from qw.store.grants import access


class IdKind(StrEnum):
    """The kind of id that a command takes."""

    TASK = "task"
    RUN = "run"
    ANY = "task or run"


_NO_ID = {
    IdKind.TASK: "is not a task id; ids are shown by: qw task list",
    IdKind.RUN: "is not a run id; ids are shown by: qw workflow runs",
    IdKind.ANY: "is not the id of a task or run; ids are shown by: qw task list, qw workflow runs",
}
_VERBS = {False: "qw task show", True: "qw workflow show"}


async def resolve(db: Connections, text: str, kind: IdKind, *, path: str = "id") -> UUID:
    """Return the id of the only task or run that begins with *text*, at least four hexadecimal digits.

    Raise Invalid for text that is no id, Conflict if several ids begin with it, NotFound for an id of the other kind.
    A full id of 32 digits that does not exist is returned unchanged: the command itself then reports it.
    """
    digits = prefix_of(text)
    if digits is None:
        raise Invalid(Fault(path=path, message=f"{text[:60]!r} {_NO_ID[kind]}"))
    async with db.connection() as conn:
        if len(digits) == 32 and not (await access(conn)).reads:
            return UUID(digits)
        matches = await tasks.resolve(conn, digits)
    fitting = [id for id, is_run in matches.items() if kind is IdKind.ANY or is_run == (kind is IdKind.RUN)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Conflict(f"{text} matches more than one id; type more characters: {', '.join(map(str, fitting))}")
    if matches:
        id, is_run = next(iter(matches.items()))
        raise NotFound(f"{id} is a {IdKind.RUN if is_run else IdKind.TASK}; see: {_VERBS[is_run]} {id}")
    if len(digits) == 32:
        return UUID(digits)
    raise NotFound(f"no {kind} id begins with {text}")


async def unique_length(db: Connections, ids: Sequence[UUID]) -> int:
    """Return how many characters of each of *ids* identify it among all tasks and runs."""
    async with db.connection() as conn:
        return short_length(ids, await tasks.neighbours(conn, ids))
