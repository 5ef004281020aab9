"""Workers: registration, heartbeat, notifications, death. Heartbeat functions block: they run in their own thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from qw import sql
from qw.clock import clock, steady
from qw.core.liveness import Death, Observation
from qw.core.task import Lane
from qw.core.task.payload import JsonObject
from qw.store.connection import Connection, execute, execute_alone, query, to_json, translated

_SQL = sql.statements("worker")


Blocking: TypeAlias = psycopg.Connection[tuple[Any, ...]]
NO_EVENTS = 2**63 - 1  # the cursor of a daemon without a relay
LOOKED = 2000  # how many tasks that run after others one poll checks, 3 us each


class AfterCursor(NamedTuple):
    """Where the next poll continues among the tasks that run after others."""

    child: UUID
    task: UUID


FROM_THE_START = AfterCursor(UUID(int=0), UUID(int=0))


class HeldClaim(NamedTuple):
    """A running task of a worker."""

    id: UUID
    fence: int


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A running task of a dead worker; see worker.sql for the counts."""

    task_id: UUID
    fence: int
    attempt: int
    retries: int
    worker: int
    unique_key: str | None
    run_id: UUID | None
    parent_id: UUID | None
    type: str
    queue: str
    crashed: bool
    crashes: int
    losses: int


@dataclass(frozen=True, kw_only=True)
class WorkerRow:
    """A live worker. ``queues`` empty: all. ``running``: the number of tasks it holds.

    ``skew``: how far its own clock is ahead of the database's. ``trouble``: the error that stops its services.
    """

    id: int
    host: str
    pid: int
    version: str
    types: list[str]
    queues: list[str]
    slots: JsonObject
    started_at: datetime
    seen_at: datetime
    draining: bool
    trouble: str | None
    skew: timedelta
    memory: int | None
    running: int


@dataclass(frozen=True, kw_only=True)
class InHand:
    """A task that a worker runs."""

    task_id: UUID
    type: str
    queue: str
    attempt: int
    claimed_at: datetime


class PollResult(NamedTuple):
    """The result of a poll; see worker.sql. ``due``: time until the next scheduled task, None: there is none.

    ``beats``: heartbeat counters of the other workers. ``doubts``: one of them may be dead. ``dead``: this worker was
    declared dead. ``schedule``: time until the next schedule. ``wakeups``: suspended tasks may resume. ``limits``:
    there are queues for the admitter. ``held``: it has tasks to admit. ``holds``: running tasks have this worker's
    number. ``asked``: a stack of one of its tasks is requested. ``events``: the outbox has events after the relay's
    cursor. ``applied``: identifies the last change of definitions. ``slots``: the number of handlers of each kind this
    worker should run at once; None: it was declared dead. ``after``: the cursor for the next poll.
    """

    lanes: list[Lane]
    due: float | None
    advance: bool
    wakeups: bool
    cancels: bool
    beats: dict[int, int]
    doubts: bool
    dead: bool
    draining: bool
    schedule: float | None = None
    limits: bool = False
    held: bool = False
    holds: bool = False
    asked: bool = False
    events: bool = False
    applied: int | None = None
    slots: dict[str, int] | None = None
    after: AfterCursor = FROM_THE_START


def register(
    conn: Blocking,
    *,
    host: str,
    pid: int,
    version: str,
    types: Sequence[str],
    queues: Sequence[str],
    slots: JsonObject,
    versions: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Register this process as a new worker. It takes over nothing from an earlier worker.

    *versions*: by type, a digest of the payloads that its handler accepts.
    """
    params = {
        "host": host, "pid": pid, "version": version, "types": list(types), "queues": list(queues),
        "slots": to_json(slots), "versions": to_json(dict(versions)),
    }  # fmt: skip
    with translated():
        row = conn.execute(_SQL["register"], params).fetchone()
    assert row is not None
    return cast("int", row[0])


def hold(conn: Blocking, worker: int) -> None:
    """Take the shared session lock that shows this worker as alive."""
    with translated():
        conn.execute(_SQL["hold"], {"worker": worker})
        conn.execute(_SQL["record_server"], {"worker": worker})


def beat(conn: Blocking, worker: int, *, memory: int | None = None) -> bool:
    """Record a heartbeat and the process's memory in bytes. Return False if the worker was declared dead."""
    with translated():
        return conn.execute(_SQL["beat"], {"worker": worker, "memory": memory}).fetchone() is not None


def survived(conn: Blocking, worker: int) -> None:
    """Record that the process of a worker that was declared dead is still running."""
    with translated():
        conn.execute(_SQL["survived"], {"worker": worker})


def rest(conn: Blocking, seconds: float) -> None:
    """Wait. Raise Unavailable as soon as the server closes the session."""
    with translated():
        for _ in conn.notifies(timeout=seconds):
            pass


def held(conn: Blocking, worker: int) -> set[HeldClaim]:
    """Return the running tasks of the worker. Raise Unavailable if the table is locked for longer than a second."""
    with translated(), conn.transaction():
        conn.execute("set local lock_timeout = '1s'")
        rows = conn.execute(_SQL["held"], {"worker": worker}).fetchall()
    return {HeldClaim._make(row) for row in rows}


def stop(conn: Blocking, worker: int) -> None:
    """Record a clean stop of the worker."""
    with translated():
        conn.execute(_SQL["stop"], {"worker": worker})
        conn.execute(_SQL["wake"], {"worker": worker})


async def hold_too(conn: Connection, worker: int) -> None:
    """Take the same lock in a second session, so that one lost connection does not count as a death."""
    await conn.execute(_SQL["hold"], {"worker": worker})


async def asked(conn: Connection, worker: int) -> dict[UUID, str]:
    """Return running tasks of the worker with a cancel request, and its reason."""
    return dict(await (await execute(conn, _SQL["cancel_requests"], {"worker": worker})).fetchall())


async def wait(conn: Connection, worker: int, queues: Sequence[str]) -> None:
    """Turn on notifications of tasks in *queues* (empty: all)."""
    await execute(conn, _SQL["wait"], {"worker": worker, "queues": list(queues) or ["*"]})


async def wake(conn: Connection, worker: int) -> None:
    """Turn off notifications."""
    await execute(conn, _SQL["wake"], {"worker": worker})


async def poll(
    conn: Connection,
    worker: int,
    *,
    cursor: datetime,
    outbox: int = NO_EVENTS,
    memory: int | None = None,
    after: AfterCursor = FROM_THE_START,
    looked: int = LOOKED,
) -> PollResult:
    """Poll for all services, record a heartbeat of the worker, and measure the database's clock.

    *cursor*: the promoter's; no task waits before it. *outbox*: the relay's. Checks up to *looked* of the tasks that
    run after others, starting at *after*.
    """
    params = {
        "worker": worker,
        "cursor": cursor,
        "outbox": outbox,
        "memory": memory,
        "after_child": after.child,
        "after_task": after.task,
        "looked": looked,
    }
    asked_at = steady()
    row = await (await execute_alone(conn, _SQL["poll"], params)).fetchone()
    assert row is not None
    queues, priorities, due, advance, wakeups, cancels, ids, beats, *rest, last, time = row
    clock.measured(asked_at, steady(), time)
    lanes = list(map(Lane, queues, priorities))
    result = PollResult(lanes, due, advance, wakeups, cancels, dict(zip(ids, beats, strict=True)), *rest)
    return result if last is None else result._replace(after=AfterCursor(*last))


async def other_workers(conn: Connection, *, worker: int) -> tuple[list[Observation], list[int]]:
    """Return the other live workers, and the ids of dead ones that still hold tasks."""
    rows = await (await execute(conn, _SQL["other_workers"], {"worker": worker})).fetchall()
    seen = [
        Observation(id=id, locks=locks, locked=locked, beats=beats)
        for id, locks, locked, gone, beats in rows
        if not gone
    ]
    return seen, [id for id, _, _, gone, _ in rows if gone]


async def mark_dead(conn: Connection, deaths: Mapping[Observation, Death]) -> list[int]:
    """Declare workers dead unless they have sent a heartbeat since they were observed. Return the dead ones."""
    params = {
        "workers": [seen.id for seen in deaths],
        "beats": [seen.beats for seen in deaths],
        "deaths": [death.value for death in deaths.values()],
    }
    return [row[0] for row in await (await query(conn, _SQL["mark_dead"], params)).fetchall()]


async def explain_crashes(conn: Connection, task: UUID) -> None:
    """Record that *task*, which was failed for it, caused the crash of these workers."""
    await query(conn, _SQL["explain_crashes"], {"task": task})


async def orphans(conn: Connection, workers: Sequence[int], *, limit: int = 100_000) -> list[Orphan]:
    """Return the running tasks of *workers*, in id order."""
    async with conn.cursor(row_factory=class_row(Orphan)) as cursor:
        await cursor.execute(_SQL["orphans"], {"workers": list(workers), "limit": limit})
        return await cursor.fetchall()


async def living(conn: Connection) -> list[WorkerRow]:
    """Return the live workers, newest first."""
    async with conn.cursor(row_factory=class_row(WorkerRow)) as cursor:
        await cursor.execute(_SQL["list"])
        return await cursor.fetchall()


async def set_trouble(conn: Connection, worker: int, trouble: str | None) -> None:
    """Store the current error of the worker's services; None: no error."""
    await query(conn, _SQL["set_trouble"], {"worker": worker, "trouble": trouble})


async def set_skew(conn: Connection, worker: int, skew: timedelta) -> None:
    """Store how far the worker's clock is ahead of the database's."""
    await query(conn, _SQL["set_skew"], {"worker": worker, "skew": skew})


async def drain(conn: Connection, worker: int) -> bool:
    """Request a worker to drain and stop. Return False if it is not running."""
    return await (await query(conn, _SQL["drain"], {"worker": worker})).fetchone() is not None


async def resize(conn: Connection, workers: Sequence[int] | None, sizes: Mapping[str, int]) -> list[int]:
    """Change the slots of running *workers* (None: of all). Return the ids of those that run."""
    params = {"workers": None if workers is None else list(workers), "slots": to_json(dict(sizes))}
    return sorted(row[0] for row in await (await query(conn, _SQL["resize"], params)).fetchall())


async def running_in(conn: Connection, worker: int, *, limit: int = 1000) -> list[InHand]:
    """Return the running tasks of a worker, longest-running first."""
    async with conn.cursor(row_factory=class_row(InHand)) as cursor:
        await cursor.execute(_SQL["tasks"], {"worker": worker, "limit": limit})
        return await cursor.fetchall()


async def prune(conn: Connection, *, age: timedelta) -> None:
    """Delete workers that ended longer ago than *age*."""
    await query(conn, _SQL["prune"], {"age": age})


async def other_versions(
    conn: Connection, *, task: UUID, type: str, queue: str, version: str
) -> tuple[bool, timedelta]:
    """Whether a live worker has another version of the handler that has not received this payload yet.

    Also return how long ago the payload was first found not to fit; zero if it was not.
    """
    params = {"task": task, "type": type, "queue": queue, "version": version}
    row = await (await query(conn, _SQL["other_versions"], params)).fetchone()
    assert row is not None
    return bool(row[0]), timedelta(seconds=row[1])


async def served_elsewhere(conn: Connection, worker: int, types: Collection[str]) -> frozenset[str]:
    """Return those of *types* that another live worker serves."""
    rows = await execute(conn, _SQL["served_elsewhere"], {"worker": worker, "types": list(types)})
    return frozenset(row[0] for row in await rows.fetchall())
