"""The search for tasks, bounded in time."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg

from qw import sql
from qw.core.errors import TimedOut
from qw.core.search import Search
from qw.core.task import Status
from qw.store.connection import Connection, bounded
from qw.store.tasks import LAST_ID

_SQL = sql.statements("search")

FIRST_ID = UUID(int=0)
_ALONG = {  # the narrow table of a status; where it is large, tasks of one type, run or customer are walked instead
    Status.PENDING: "waiting",
    Status.RETRYING: "waiting",
    Status.PROCESSING: "running",
    Status.COMPLETED: "finished",
    Status.FAILED: "finished",
    Status.CANCELLED: "finished",
}
_LARGE = (Status.PENDING, Status.COMPLETED)
_BY_CUSTOMER = (*_LARGE, Status.FAILED, Status.CANCELLED)  # a customer has fewer tasks than most failures


async def find(
    conn: Connection, search: Search, *, limit: int, before: UUID = LAST_ID, after: UUID = FIRST_ID, seconds: float
) -> list[UUID]:
    """Ids of matching tasks below *before* and above *after*, newest first. Raise TimedOut after *seconds*."""
    found: list[list[UUID]] = []
    try:
        async with bounded(conn, seconds, _planning(search)):
            for status in search.statuses or (None,):
                statement, params = _statement(search, status, limit, before, after)
                cursor = await conn.execute(statement, params, prepare=False, binary=True)
                found.append([row[0] for row in await cursor.fetchall()])
    except psycopg.errors.QueryCanceled:
        raise _too_slow(seconds) from None
    return list(islice(merge(*found, reverse=True), limit))


async def count(conn: Connection, search: Search, *, limit: int, seconds: float) -> int:
    """How many tasks match, at most *limit* of each status. Raise TimedOut after *seconds*."""
    total = 0
    try:
        async with bounded(conn, seconds, _planning(search)):
            for status in search.statuses or (None,):
                statement, params = _statement(search, status, limit, LAST_ID, FIRST_ID)
                counting = f"select count(*) from ({statement}) found"  # noqa: S608 - all of it is ours
                row = await (await conn.execute(counting, params, prepare=False)).fetchone()
                total += row[0] if row else 0
    except psycopg.errors.QueryCanceled:
        raise _too_slow(seconds) from None
    return total


async def estimate(conn: Connection, search: Search) -> int:
    """The planner's guess at how many tasks match."""
    total = 0
    for status in search.statuses or (None,):
        statement, params = _statement(search, status, None, LAST_ID, FIRST_ID)
        row = await (await conn.execute(f"explain (format json) {statement}", params, prepare=False)).fetchone()
        total += int(row[0][0]["Plan"]["Plan Rows"]) if row else 0
    return total


def _planning(search: Search) -> dict[str, str]:
    """Along an index. Before the first ANALYZE the planner believes that few tasks match, and reads and sorts them all:
    1.5 s against 10 ms at 2 million tasks. Those of a run are few indeed, and their index has no order."""
    if search.run_id is not None:
        return {}
    return {"enable_bitmapscan": "off", "enable_seqscan": "off", "enable_sort": "off"}


def _statement(
    search: Search, status: Status | None, limit: int | None, before: UUID, after: UUID
) -> tuple[str, dict[str, Any]]:
    customer = next((value for path, value in search.payload if path == "customerId"), None)
    is_narrow = len(search.types) == 1 or customer is not None or search.run_id is not None
    walked = _BY_CUSTOMER if customer is not None else _LARGE
    along = "by_task" if status is None or (status in walked and is_narrow) else _ALONG[status]
    low = max(search.low or FIRST_ID, UUID(int=min(after.int + 1, LAST_ID.int)) if after != FIRST_ID else FIRST_ID)
    high = min(before, UUID(int=min(search.high.int + 1, LAST_ID.int))) if search.high else before
    params = {
        "before": high,
        "low": low,
        "type": search.types[0] if len(search.types) == 1 else None,
        "types": list(search.types) or None,
        "queues": list(search.queues) or None,
        "run_id": search.run_id,
        "customer": customer,
        "since": search.since,
        "until": search.until,
        "paths": [path for path, _ in search.payload] or None,
        "values": [value for _, value in search.payload] or None,
        "errors": list(search.errors) or None,
        "status": status and status.value,
        "limit": limit,
    }
    return _SQL[along], params


def _too_slow(seconds: float) -> TimedOut:
    return TimedOut(f"the search took longer than {seconds:g} s and was stopped; narrow it by queue, type or time")
