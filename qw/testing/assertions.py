"""`assert_enqueued`: checks which tasks a program enqueued."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from qw.client import Client
from qw.core.task.payload import JsonObject
from qw.dbapi import Connection, driver_of

SHOWN = 10  # tasks that a failed assertion lists

# Over the caller's driver, so parameters are written %s. Values come as text because drivers differ in what they read.
_TASKS = """
select id::text, type, payload::text, queue, priority, status, unique_key, run_at
  from qw.tasks where type = coalesce(%s::text, type) order by id
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A task found by `assert_enqueued`. ``run_at``: it does not run before that time."""

    id: UUID
    type: str
    payload: JsonObject
    queue: str
    priority: int
    status: str
    unique_key: str | None
    run_at: datetime | None


class AssertEnqueued(Protocol):
    """The type of the fixture ``assert_enqueued``: the function of that name, for the database of the test."""

    def __call__(
        self,
        *,
        type: str | None = None,
        payload: JsonObject | None = None,
        queue: str | None = None,
        priority: int | None = None,
        status: str | None = None,
        unique_key: str | None = None,
        count: int | None = None,
    ) -> list[Found]: ...


def assert_enqueued(
    where: str | Client | Connection,
    /,
    *,
    type: str | None = None,
    payload: JsonObject | None = None,
    queue: str | None = None,
    priority: int | None = None,
    status: str | None = None,
    unique_key: str | None = None,
    count: int | None = None,
) -> list[Found]:
    """Fail unless a task matches all arguments; with *count*, exactly that many. Return the matching tasks.

    *where*: the URL of a database, a client of it, or a DB-API connection. Only a connection sees tasks of its own
    open transaction, such as that of a `django.test.TestCase`. *payload*: keys and values that the payload must
    contain, also within nested objects. ``count=0``: no task may match.
    """
    expected = {"queue": queue, "priority": priority, "status": status, "unique_key": unique_key}
    wanted = {name: value for name, value in expected.items() if value is not None}
    tasks = _read(where, type)
    found = [task for task in tasks if _fits(task, wanted, payload)]
    if (count is None and found) or count == len(found):
        return found
    raise AssertionError(_failure(type, payload, wanted, count, found, tasks or _read(where, None)))


def _fits(task: Found, wanted: dict[str, Any], payload: JsonObject | None) -> bool:
    return all(getattr(task, name) == value for name, value in wanted.items()) and (
        payload is None or _contains(task.payload, payload)
    )


def _contains(value: Any, part: Any) -> bool:
    if isinstance(value, dict) and isinstance(part, dict):
        return all(name in value and _contains(value[name], member) for name, member in part.items())
    return bool(value == part)


def _failure(
    type: str | None,
    payload: JsonObject | None,
    wanted: dict[str, Any],
    count: int | None,
    found: list[Found],
    tasks: list[Found],
) -> str:
    asked = {"type": type, "payload": payload, **wanted}
    words = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)
    number = "at least one task" if count is None else f"{count} tasks"
    lines = [f"expected {number} with {words or 'any type'}, found {len(found)}"]
    lines.append("enqueued:" if tasks else "no task was enqueued")
    lines += [f"  {task.type} {json.dumps(task.payload)} (queue {task.queue}, {task.status})" for task in tasks[:SHOWN]]
    lines += [f"  … and {len(tasks) - SHOWN} more"] if len(tasks) > SHOWN else []
    return "\n".join(lines)


def _read(where: str | Client | Connection, type: str | None) -> list[Found]:
    with _cursor(where) as execute:
        rows = execute(_TASKS, [type])
    return [
        Found(
            id=UUID(id), type=name, payload=json.loads(payload), queue=queue, priority=priority, status=status,
            unique_key=key, run_at=run_at,
        )
        for id, name, payload, queue, priority, status, key, run_at in rows
    ]  # fmt: skip


@contextmanager
def _cursor(where: str | Client | Connection) -> Iterator[Callable[[str, list[Any]], Any]]:
    """An object that executes a statement and returns its rows."""
    import psycopg

    if isinstance(where, (str, Client)):
        with psycopg.connect(where if isinstance(where, str) else where.url) as conn, _cursor(conn) as execute:
            yield execute
        return
    cursor: Any = driver_of(where).cursor()

    def run(statement: str, parameters: list[Any]) -> Any:
        cursor.execute(statement, parameters)
        return cursor.fetchall()

    try:
        yield run
    finally:
        cursor.close()
