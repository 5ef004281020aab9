"""Stacks of running tasks: request, store and read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from qw import sql
from qw.core.task.payload import JsonObject
from qw.store.connection import Connection, query, to_json

_SQL = sql.statements("stack")


@dataclass(frozen=True, kw_only=True)
class StackAnswer:
    """The answer of a worker. ``age``: in seconds. ``is_asked``: another request is pending."""

    at: datetime | None
    age: float | None
    answer: JsonObject | None
    is_asked: bool


async def ask(conn: Connection, id: UUID) -> bool:
    """Request the stack of a running task from its worker. Return False if the task does not run."""
    return await (await query(conn, _SQL["ask"], {"id": id})).fetchone() is not None


async def asked(conn: Connection, worker: int) -> list[UUID]:
    """Return the tasks whose stacks are requested from this worker."""
    return [row[0] for row in await (await query(conn, _SQL["requested"], {"worker": worker})).fetchall()]


async def answer(conn: Connection, id: UUID, frames: JsonObject | None) -> None:
    """Store an answer. None: the task has ended, and the last answer is kept."""
    await query(conn, _SQL["answer"], {"id": id, "answer": to_json(frames)})


async def find(conn: Connection, id: UUID) -> StackAnswer | None:
    row = await (await query(conn, _SQL["find"], {"id": id})).fetchone()
    return StackAnswer(at=row[0], age=row[1], answer=row[2], is_asked=row[3]) if row else None


async def prune(conn: Connection, *, limit: int) -> int:
    """Delete the stacks of tasks that no longer exist."""
    row = await (await query(conn, _SQL["prune"], {"limit": limit})).fetchone()
    return row[0] if row else 0
