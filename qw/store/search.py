"""The search for tasks, with a time limit."""

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
NEWEST = 20_000  # ended tasks read before those of a customer or type: 0.2 s at most
_ALONG = {  # the narrow table of a status; if it is large, read the tasks of one type, run or customer instead
    Status.PENDING: "waiting",
    Status.RETRYING: "waiting",
    Status.PROCESSING: "running",
    Status.COMPLETED: "finished",
    Status.FAILED: "finished",
    Status.CANCELLED: "finished",
}
_LARGE = (Status.PENDING, Status.COMPLETED)
_BY_CUSTOMER = (*_LARGE, Status.FAILED, Status.CANCELLED)  # most customers have fewer tasks than there are failures


async def find(
    conn: Connection, search: Search, *, limit: int, before: UUID = LAST_ID, after: UUID = FIRST_ID, seconds: float
) -> list[UUID]:
    """Return ids of matching tasks between *after* and *before*, newest first. Raise TimedOut after *seconds*."""
    pages: list[list[UUID]] = []
    try:
        async with bounded(conn, seconds, _planning(search)):
            for status in search.statuses or (None,):
                ids: list[UUID] = []
                for statement, params in await _statements(conn, search, status, before, after):
                    params["limit"] = limit - len(ids)
                    cursor = await conn.execute(statement, params, prepare=False, binary=True)
                    ids += [row[0] for row in await cursor.fetchall()]
                    if len(ids) == limit:
                        break
                pages.append(ids)
    except psycopg.errors.QueryCanceled:
        raise _too_slow(seconds) from None
    return list(islice(merge(*pages, reverse=True), limit))


async def count(conn: Connection, search: Search, *, limit: int, seconds: float) -> int:
    """Return the number of matching tasks, counting at most *limit* per status. Raise TimedOut after *seconds*."""
    total = 0
    try:
        async with bounded(conn, seconds, _planning(search)):
            for status in search.statuses or (None,):
                for statement, params in await _statements(conn, search, status, LAST_ID, FIRST_ID):
                    params["limit"] = limit
                    counting = f"select count(*) from ({statement}) found"  # noqa: S608 - all of it is ours
                    row = await (await conn.execute(counting, params, prepare=False)).fetchone()
                    total += row[0] if row else 0
    except psycopg.errors.QueryCanceled:
        raise _too_slow(seconds) from None
    return total


async def estimate(conn: Connection, search: Search) -> int:
    """Return the planner's estimate of the number of matching tasks."""
    total = 0
    for status in search.statuses or (None,):
        statement, params = _SQL[_along(search, status)], _params(search, status, LAST_ID, FIRST_ID)
        row = await (await conn.execute(f"explain (format json) {statement}", params, prepare=False)).fetchone()
        total += int(row[0][0]["Plan"]["Plan Rows"]) if row else 0
    return total


def _planning(search: Search) -> dict[str, str]:
    """Return planner settings that walk an index in id order instead of sorting.

    Before the first ANALYZE the planner expects few matches, and reads and sorts them all: 1.5 s against 10 ms at 2
    million tasks. The tasks of one run are few indeed, and their index is not in id order.
    """
    if search.run_id is not None:
        return {}
    return {"enable_bitmapscan": "off", "enable_seqscan": "off", "enable_sort": "off"}


async def _statements(
    conn: Connection, search: Search, status: Status | None, before: UUID, after: UUID
) -> list[tuple[str, dict[str, Any]]]:
    """Yield the statements that find the tasks of each status, with parameters; those for the newest tasks first.

    A customer or type may have fewer tasks than ended with a status, or many more, such as 100,000 that wait. So the
    most recently ended tasks are read first, then those of the customer or type.
    """
    along, params = _along(search, status), _params(search, status, before, after)
    if along != "by_task" or search.run_id is not None or _ALONG.get(status or Status.PENDING) != "finished":
        return [(_SQL[along], params)]
    row = await (await conn.execute(_SQL["newest_finished"], {**params, "most": NEWEST}, prepare=False)).fetchone()
    if row is None:
        return [(_SQL["finished"], params)]
    return [(_SQL["finished"], {**params, "low": row[0]}), (_SQL["by_task"], {**params, "before": row[0]})]


def _along(search: Search, status: Status | None) -> str:
    is_narrow = len(search.types) == 1 or _customer(search) is not None or search.run_id is not None
    walked = _BY_CUSTOMER if _customer(search) is not None else _LARGE
    return "by_task" if status is None or (status in walked and is_narrow) else _ALONG[status]


def _customer(search: Search) -> str | None:
    return next((value for path, value in search.payload if path == "customerId"), None)


def _params(search: Search, status: Status | None, before: UUID, after: UUID) -> dict[str, Any]:
    low = max(search.low or FIRST_ID, UUID(int=min(after.int + 1, LAST_ID.int)) if after != FIRST_ID else FIRST_ID)
    high = min(before, UUID(int=min(search.high.int + 1, LAST_ID.int))) if search.high else before
    return {
        "before": high,
        "low": low,
        "type": search.types[0] if len(search.types) == 1 else None,
        "types": list(search.types) or None,
        "queues": list(search.queues) or None,
        "run_id": search.run_id,
        "customer": _customer(search),
        "since": search.since,
        "until": search.until,
        "paths": [path for path, _ in search.payload] or None,
        "values": [value for _, value in search.payload] or None,
        "errors": list(search.errors) or None,
        "status": status and status.value,
        "limit": None,
    }


def _too_slow(seconds: float) -> TimedOut:
    return TimedOut(f"the search took longer than {seconds:g} s and was stopped; narrow it by queue, type or time")
