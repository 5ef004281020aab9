"""Details of one queue, task or database for its page: attempts, slots, types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from qw import sql
from qw.core.task.payload import JsonObject
from qw.store import migrations
from qw.store.connection import Connection, query

_SQL = sql.statements("detail")


class TaskType(NamedTuple):
    name: str
    schema: JsonObject | None
    max_retries: int
    timeout_seconds: float | None


class SlotHolder(NamedTuple):
    """A task that runs, or that has a slot of a limited queue and waits to be claimed (no worker)."""

    task_id: UUID
    type: str
    key: str
    started_at: datetime | None
    worker: int | None


class Table(NamedTuple):
    name: str
    rows: int
    bytes: int
    dead_rows: int
    vacuumed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class DatabaseFacts:
    """``connections``: their number by application name. ``migration``: the newest applied migration."""

    version: str
    bytes: int
    max_connections: int
    transaction_seconds: float
    migration: str | None
    tables: Sequence[Table]
    connections: Mapping[str, int]


async def hosts(conn: Connection, workers: Sequence[int]) -> dict[int, str]:
    """Return the hosts of the existing workers among these."""
    return dict(await (await query(conn, _SQL["hosts"], {"ids": list(workers)})).fetchall())


async def made_of(conn: Connection, id: UUID) -> list[UUID]:
    return [row[0] for row in await (await query(conn, _SQL["made_of"], {"id": id})).fetchall()]


async def types(conn: Connection) -> list[TaskType]:
    """Return the registered types in name order."""
    return [TaskType(*row) for row in await (await query(conn, _SQL["types"])).fetchall()]


async def lanes(conn: Connection, queue: str) -> list[tuple[int, int]]:
    """Return the priorities with claimable tasks and their counts, exact to 10,000. A paused queue has none."""
    return [(row[0], row[1]) for row in await (await query(conn, _SQL["lanes"], {"queue": queue})).fetchall()]


async def held(conn: Connection, queue: str) -> int:
    """Return the number of tasks that the limits hold back, exact to 10,000."""
    row = await (await query(conn, _SQL["held"], {"queue": queue})).fetchone()
    return row[0] if row else 0


async def holders(conn: Connection, queue: str, *, limit: int = 100) -> list[SlotHolder]:
    """Return the slot holders, longest-running first."""
    rows = await (await query(conn, _SQL["holders"], {"queue": queue, "limit": limit})).fetchall()
    return [SlotHolder(*row) for row in rows]


async def database(conn: Connection) -> DatabaseFacts:
    row = await (await query(conn, _SQL["database"])).fetchone()
    assert row is not None
    version, size, most, seconds = row
    return DatabaseFacts(
        version=version,
        bytes=size,
        max_connections=most,
        transaction_seconds=seconds,
        migration=await migrations.newest(conn),
        tables=[Table(*row) for row in await (await query(conn, _SQL["tables"])).fetchall()],
        connections=dict(await (await query(conn, _SQL["connections"])).fetchall()),
    )
