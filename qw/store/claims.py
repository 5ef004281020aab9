"""Task operations of workers: claim tasks, end attempts, promote scheduled and release unserved tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from qw import sql
from qw.core.errors import QwError
from qw.core.suspects import CrashRecord
from qw.core.task import Claim, Lane, Status
from qw.core.task.ending import Ending
from qw.store import arrays
from qw.store.connection import Connection, execute, query, to_json, translated

_SQL = sql.statements("claim")

_BY_ID = attrgetter("id.int")
new_tuple = tuple.__new__  # 0.2 us less per claim than `Claim._make`


class Share(NamedTuple):
    """How much to claim from a lane: at most ``quota`` tasks with a seq above ``cursor``."""

    lane: Lane
    cursor: int
    quota: int


class EndedAttempt(NamedTuple):
    """An ended attempt, as the `end` statement takes it. ``seconds``: run time of its handler; None: it did not run.

    A tuple for speed, like `Claim`.
    """

    id: UUID
    fence: int
    attempt: int
    ending: Ending
    seconds: float | None = None
    unique_key: str | None = None
    run_id: UUID | None = None
    queue: str = ""
    parent_id: UUID | None = None


async def claim(
    conn: Connection,
    worker: int,
    shares: Sequence[Share],
    *,
    room: int,
    without: Sequence[str] = (),
    below_crashes: int | None = None,
    apart: Collection[int] | None = None,
) -> list[Claim]:
    """Claim up to *room* tasks, in the order they are to run. Returns none if the worker was declared dead.

    Tasks with *below_crashes* or more crashes are left out. With *apart*, tasks with exactly that many are included
    unless one of the workers in *apart* died while running them.
    """
    params: dict[str, Any] = {
        "worker": worker,
        "queues": arrays.texts(share.lane.queue for share in shares),
        "priorities": arrays.smallints(share.lane.priority for share in shares),
        "cursors": arrays.bigints(share.cursor for share in shares),  # one type: one prepared statement
        "quotas": arrays.integers(share.quota for share in shares),
        "room": room,
    }
    statement = _SQL["claim"]
    if without or below_crashes is not None:
        statement = _SQL["claim_some"]
        params |= {
            "without": list(without),
            "crashes": 32_000 if below_crashes is None else below_crashes,
            "apart": None if apart is None else list(apart),
        }
    rows = await (await execute(conn, statement, params)).fetchall()
    claims = [new_tuple(Claim, row) for row in rows]
    if len(shares) == 1:
        claims.sort(key=attrgetter("seq"))
    elif len(claims) > 1:
        place = {share.lane: n for n, share in enumerate(shares)}
        claims.sort(key=lambda claim: (place[Lane(claim.queue, claim.priority)], claim.seq))
    return claims


async def crash_records(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, CrashRecord]:
    """Return the crash records of running tasks."""
    rows = await (await query(conn, _SQL["crash_records"], {"ids": list(ids)})).fetchall()
    return {id: CrashRecord(crashes=crashes, died=frozenset(died)) for id, crashes, died in rows}


async def end(conn: Connection, ended: Sequence[EndedAttempt]) -> set[int]:
    """Store the outcomes of attempts and their events. Return the fences of the attempts that still held their task.

    At most three statements, each atomic; safe to repeat.
    """
    ended = sorted(ended, key=_BY_ID)
    plain: list[EndedAttempt] = []
    others: list[EndedAttempt] = []
    suspended: list[EndedAttempt] = []
    for e in ended:
        (plain if _is_plain(e) else others if e.ending.suspended is None else suspended).append(e)
    mine: set[int] = set()
    if plain:
        mine.update(row[0] for row in await (await execute(conn, _SQL["complete"], _completions(plain))).fetchall())
    if others:
        mine.update(row[0] for row in await (await execute(conn, _SQL["end"], _endings(others))).fetchall())
    if suspended:
        mine.update(row[0] for row in await (await execute(conn, _SQL["suspend"], _suspensions(suspended))).fetchall())
    return mine


async def limit_lock_waits(conn: Connection, worker: int) -> None:
    """Until the transaction ends, wait at most 50 ms for each lock and do not notify *worker*, its owner."""
    await execute(conn, _SQL["limit_lock_waits"], {"worker": str(worker)})


def _is_plain(ended: EndedAttempt) -> bool:
    return (
        ended.ending.status is Status.COMPLETED
        and ended.run_id is None
        and ended.unique_key is None
        and ended.parent_id is None
        and ended.seconds is not None
    )


def _completions(ended: Sequence[EndedAttempt]) -> dict[str, Any]:
    return {
        "ids": arrays.uuids([e.id for e in ended]),
        "fences": arrays.bigints([e.fence for e in ended]),
        "seconds": arrays.floats([e.seconds for e in ended]),
        "results": arrays.texts([to_json(e.ending.result) for e in ended]),
    }


def _endings(ended: Sequence[EndedAttempt]) -> dict[str, Any]:
    endings = [e.ending for e in ended]
    return {
        "ids": arrays.uuids(e.id for e in ended),
        "fences": arrays.bigints(e.fence for e in ended),
        "attempts": arrays.integers(e.attempt for e in ended),
        "statuses": arrays.texts(e.status.value for e in endings),
        "retries": arrays.smallints(e.retries for e in endings),
        "crashes": arrays.smallints(e.crashes for e in endings),
        "delays": [e.delay for e in endings],
        "reasons": arrays.texts(e.reason for e in endings),
        "results": arrays.texts(to_json(e.result) for e in endings),
        "errors": arrays.texts(e.error for e in endings),
        "outcomes": arrays.texts(e.outcome for e in endings),
        "kinds": arrays.texts(e.kind for e in endings),
        "seconds": arrays.floats(e.seconds for e in ended),
        "keys": arrays.texts(e.unique_key for e in ended),
        "runs": arrays.uuids(e.run_id for e in ended),
        "parents": arrays.uuids(e.parent_id for e in ended),
    }


def _suspensions(ended: Sequence[EndedAttempt]) -> dict[str, Any]:
    suspended = [(e, e.ending.suspended) for e in ended if e.ending.suspended is not None]
    begun = [s.new for _, s in suspended]
    waits = [(e.id, wait.key) for e, s in suspended for wait in s.waits if wait.fence != e.fence]
    return {
        "ids": arrays.uuids(e.id for e, _ in suspended),
        "fences": arrays.bigints(e.fence for e, _ in suspended),
        "attempts": arrays.integers(e.attempt for e, _ in suspended),
        "untils": [s.until for _, s in suspended],
        "most_opens": arrays.integers(s.most_open for _, s in suspended),
        "reasons": arrays.texts(e.ending.reason for e, _ in suspended),
        "kinds": arrays.texts(new.kind.value if new else None for new in begun),
        "new_names": arrays.texts(new.key.name if new else None for new in begun),
        "new_occurrences": arrays.integers(new.key.occurrence if new else None for new in begun),
        "places": arrays.floats(new.place if new else None for new in begun),
        "delays": [new.delay if new else None for new in begun],
        "of_ids": arrays.uuids(id for id, _ in waits),
        "branches": arrays.texts(key.branch for _, key in waits),
        "names": arrays.texts(key.name for _, key in waits),
        "occurrences": arrays.integers(key.occurrence for _, key in waits),
        "told": arrays.uuids(e.id for e, s in suspended if not s.needs_only_time),
    }


def end_blocking(conn: psycopg.Connection[tuple[Any, ...]], ended: Sequence[EndedAttempt]) -> int:
    """Like `end` on a blocking connection, within seconds: locked rows are skipped. Return the number stored.

    A suspended task becomes ready and is suspended again by its next attempt: its handler repeats only stored steps.
    """
    try:
        with translated(), conn.transaction():
            conn.execute("set local lock_timeout = '500ms'; set local statement_timeout = '3s'")
            conn.execute(_SQL["end"], _endings(sorted(ended, key=lambda e: e.id.int)), binary=True)
        return len(ended)
    except QwError:
        if len(ended) == 1 or conn.closed:
            return 0
        return sum(end_blocking(conn, [one]) for one in ended)


async def recorded(conn: Connection, ended: Sequence[EndedAttempt]) -> set[int]:
    """Return the fences whose outcome is stored, to resolve commits with an unknown result."""
    params = {"ids": [e.id for e in ended], "fences": [e.fence for e in ended]}
    return {row[0] for row in await (await execute(conn, _SQL["recorded"], params)).fetchall()}


async def record_lost(conn: Connection, worker: int, ended: Sequence[EndedAttempt]) -> None:
    """Record results that arrived after the lease was lost, in the attempt history only. Idempotent."""
    params = {
        "worker": worker,
        "ids": [e.id for e in ended],
        "fences": [e.fence for e in ended],
        "attempts": [e.attempt for e in ended],
        "errors": [e.ending.error for e in ended],
        "results": [to_json(e.ending.result) for e in ended],
    }
    await execute(conn, _SQL["record_lost"], params)


async def lanes(conn: Connection) -> list[Lane]:
    """Return the lanes that hold tasks and are not paused."""
    return [Lane._make(row) for row in await (await execute(conn, _SQL["lanes"])).fetchall()]


async def promote(conn: Connection, *, cursor: datetime, limit: int) -> list[tuple[Lane, datetime]]:
    """Move up to *limit* scheduled tasks due since *cursor* to ready. Return the lane and due time of each."""
    rows = await (await execute(conn, _SQL["promote"], {"cursor": cursor, "limit": limit})).fetchall()
    return [(Lane(queue, priority), run_at) for queue, priority, run_at in rows]


async def release_unserved(conn: Connection, types: Sequence[str]) -> list[Lane]:
    """Make ready the parked tasks of *types*. Return their lanes."""
    rows = await (await execute(conn, _SQL["release_unserved"], {"types": list(types)})).fetchall()
    return [Lane._make(row) for row in rows]
