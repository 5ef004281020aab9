"""`qw.enqueue` for synchronous programs: one function for any DB-API connection to PostgreSQL.

    with psycopg.connect(url) as conn:
        conn.execute("insert into customer …")
        qw.enqueue(conn, "send_email", {"customerId": "zoe"})

The connection may come from psycopg, psycopg2, pg8000 or Django, or be a session of SQLAlchemy. Parameters are written
as ``%s``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, Unpack, cast
from uuid import UUID
from weakref import WeakKeyDictionary

from qw import task_check, telemetry
from qw.core.errors import Invalid
from qw.core.task import FIELDS, EnqueueOptions, NewTask, check_new
from qw.core.task.payload import JsonObject, raise_faults
from qw.ids import new_id
from qw.task_check import LastKnown

# Not in qw/sql, because it runs on the caller's driver, which may not support named parameters. Every value has a cast,
# because drivers differ in how they send text and numbers.
_CASTS = {name: f"text::{type}" if type in ("jsonb", "uuid") else type for name, type in FIELDS.items()}
_SCHEMAS = "select qw.task_schemas()::text"


class Cursor(Protocol):
    def execute(self, operation: str, parameters: Sequence[Any], /) -> object: ...
    def fetchone(self) -> Any: ...
    def close(self) -> object: ...


class DbapiConnection(Protocol):
    """The part of a DB-API connection (PEP 249) that qw uses."""

    def cursor(self) -> Cursor: ...


class SqlAlchemy(Protocol):
    """A `Session` or `Connection` of SQLAlchemy, over a driver that accepts ``%s`` parameters."""

    @property
    def connection(self) -> Any: ...


Connection: TypeAlias = DbapiConnection | SqlAlchemy


def enqueue(
    conn: Connection,
    type: str,
    payload: JsonObject | None = None,
    *,
    on_conflict: Literal["error", "skip"] = "error",
    **options: Unpack[EnqueueOptions],
) -> UUID:
    """Enqueue a task in the transaction of *conn* and return its id, or the id of the task that holds its key.

    The caller commits; a rollback removes the task. *options* are those of `Client.enqueue`. *on_conflict*: if an
    unfinished task holds *unique_key*, ``error`` raises the driver's error, ``skip`` returns the id of the holder.
    Raise Invalid for a task that cannot be stored, or that no registered worker can run (not checked if QW_CHECK_TASKS
    is off). Errors of the database are raised as the driver's exceptions.
    """
    task = NewTask.of(type, payload, options, id=new_id())
    return enqueue_task(conn, task, on_conflict=on_conflict, makes_id=options.get("id") is None)


def enqueue_task(
    conn: Connection, task: NewTask, *, on_conflict: Literal["error", "skip"] = "error", makes_id: bool = False
) -> UUID:
    """Enqueue a `NewTask`; see `enqueue`. *makes_id*: the database generates the id, by its own clock."""
    check_new(task)
    driver = driver_of(conn)
    if not task.is_checked and task_check.is_on():
        _check(driver, task)
    if not telemetry.is_active():
        return _enqueue(driver, task, on_conflict, makes_id)
    with telemetry.enqueuing(task) as traced:
        return _enqueue(driver, traced, on_conflict, makes_id)


def _enqueue(driver: DbapiConnection, task: NewTask, on_conflict: str, makes_id: bool) -> UUID:
    document = task.document() | {"on_conflict": on_conflict}
    if makes_id:
        del document["id"]
    named = ", ".join(f"{name} => %s::{_CASTS.get(name, 'text')}" for name in document)
    values = [json.dumps(value) if isinstance(value, dict) else value for value in document.values()]
    return UUID(_ask(driver, f"select qw.enqueue({named})::text", values))


def _check(driver: DbapiConnection, task: NewTask) -> None:
    """Raise Invalid for a task that no registered worker can run. The types are cached per connection for 30 s."""
    last = _last_known(driver)
    if not last.accepts(task):
        last.learn(json.loads(_ask(driver, _SCHEMAS, ())))
        raise_faults(iter(last.faults(task)))


def _last_known(driver: DbapiConnection) -> LastKnown:
    try:
        return _KNOWN.setdefault(driver, LastKnown())
    except TypeError:  # the connection cannot be hashed or weakly referenced
        return LastKnown()


_KNOWN: WeakKeyDictionary[DbapiConnection, LastKnown] = WeakKeyDictionary()


def _ask(driver: DbapiConnection, statement: str, parameters: Sequence[Any]) -> Any:
    cursor = driver.cursor()
    try:
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0]
    finally:
        cursor.close()


def driver_of(conn: Any) -> DbapiConnection:
    """Return the DB-API connection of *conn*, which may be from SQLAlchemy; that begins a transaction if needed."""
    if hasattr(conn, "cursor"):
        return cast("DbapiConnection", conn)
    if callable(getattr(conn, "connection", None)):  # a Session
        conn = conn.connection()
    driver = getattr(conn, "connection", None)
    if not hasattr(driver, "cursor"):
        raise Invalid(
            f"conn: a {type(conn).__name__} is not a DB-API connection; for an async connection use qw.Client"
        )
    if not conn.in_transaction():
        conn.begin()  # SQLAlchemy does not see the cursor's statements, and would not commit them
    return cast("DbapiConnection", driver)
