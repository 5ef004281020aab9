"""Enqueueing over a connection of another library, in its transaction: SQLAlchemy (async) and asyncpg.

Both are recognised by their methods; this module imports neither unless a connection of it is passed.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from qw.core.errors import Conflict, Invalid, NotFound, QwError
from qw.core.task import Enqueued, NewTask, OnConflict
from qw.core.task.payload import JsonObject
from qw.store.connection import Connection


class Asyncpg(Protocol):
    """A connection of asyncpg, or one from its pool."""

    def fetchval(self, *args: Any, **kwargs: Any) -> Any: ...


class AsyncSqlAlchemy(Protocol):
    """An `AsyncSession` or `AsyncConnection` of SQLAlchemy, with any driver for PostgreSQL."""

    def scalar(self, *args: Any, **kwargs: Any) -> Any: ...


AnyConnection: TypeAlias = Connection | Asyncpg | AsyncSqlAlchemy

# These statements avoid `::` casts, because SQLAlchemy takes a colon for a parameter.
_ENQUEUE = (
    "select cast(id as text) || ' ' || cast(is_new as text) from qw.enqueue_many(cast(cast({} as text) as jsonb))"
)
_SCHEMAS = "select cast(qw.task_schemas() as text)"
_ERRORS: dict[str, type[QwError]] = {"QW001": NotFound, "QW002": Conflict, "QW003": Invalid}


def is_foreign(conn: object) -> bool:
    """Whether *conn* belongs to a library other than psycopg. Raise Invalid for a synchronous connection."""
    if hasattr(conn, "pgconn") and hasattr(conn, "__aenter__"):
        return False
    if not (hasattr(conn, "fetchval") or hasattr(conn, "scalar")):
        raise Invalid(
            f"conn: a {type(conn).__name__} is not an async connection; for a DB-API connection use qw.enqueue"
        )
    return True


async def schemas_over(conn: Any) -> dict[str, JsonObject | None]:
    """As `qw.store.types.schemas`, over a connection of another library."""
    schemas: dict[str, JsonObject | None] = json.loads(await _ask(conn, _SCHEMAS))
    return schemas


async def enqueue_over(conn: Any, task: NewTask, on_conflict: OnConflict) -> Enqueued:
    """Enqueue *task* in the transaction of *conn*. Raise Conflict, Invalid, or the library's own errors."""
    if on_conflict == "replace":
        raise Invalid("on_conflict: 'replace' needs a psycopg connection; with other drivers use 'error' or 'skip'")
    try:
        answer = await _ask(conn, _ENQUEUE, json.dumps([{**task.document(), "on_conflict": on_conflict}]))
    except Exception as error:
        raise _ours(error) or error from error
    id, _, is_new = str(answer).partition(" ")
    return Enqueued(id=UUID(id), is_new=is_new == "true")


def _ask(conn: Any, statement: str, *tasks: str) -> Awaitable[Any]:
    if hasattr(conn, "fetchval"):
        asked: Awaitable[Any] = conn.fetchval(statement.format("$1"), *tasks)
        return asked
    from sqlalchemy import text

    answer = conn.scalar(text(statement.format(":tasks")), dict(zip(("tasks",), tasks, strict=False)))
    if not hasattr(answer, "__await__"):
        raise Invalid(f"conn: {type(conn).__name__} is not async; for a synchronous session use qw.enqueue")
    awaitable: Awaitable[Any] = answer
    return awaitable


def _ours(error: BaseException) -> QwError | None:
    """Return the error that qw's SQL raised, unwrapped from the library's exceptions."""
    inner: Any = getattr(error, "orig", None) or error
    kind = _ERRORS.get(getattr(inner, "sqlstate", None) or "")
    if kind is None:
        return None
    said = str(getattr(getattr(inner, "diag", None), "message_primary", None) or inner).splitlines()[0]
    return kind(said.rpartition("tasks[0]: ")[2])
