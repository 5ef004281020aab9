"""Hands back claims in a worker's name that its process does not run, so that others can run them."""

from __future__ import annotations

import contextlib
import logging

from qw.core.errors import QwError
from qw.core.task import Policy
from qw.core.task.ending import HandedBack, end
from qw.services.execution.in_flight import InFlight
from qw.store import claims, workers
from qw.store.claims import EndedAttempt
from qw.store.pool import Pool
from qw.store.workers import Orphan

log = logging.getLogger(__name__)


async def return_strays(pool: Pool, worker: int, in_flight: InFlight, fences: set[int]) -> None:
    """End those of the claims that this process never received."""
    async with pool.connection() as conn:
        rows = await workers.orphans(conn, [worker])
        strays = [row for row in rows if row.fence in fences and in_flight.of_fence(row.fence) is None]
        log.warning("released claims whose response was lost", extra={"tasks": len(strays)})
        await claims.end(conn, [_handed_back(row, row.attempt - 1) for row in strays])


async def return_the_rest(pool: Pool, worker: int) -> None:
    """At the end, hand back everything still running in this name: a claim that arrived late, a thread that
    remains.
    """
    with contextlib.suppress(QwError):  # the lease runs out by itself
        async with pool.connection() as conn:
            rows = await workers.orphans(conn, [worker])
            if rows:
                log.warning("tasks released at shutdown", extra={"tasks": len(rows)})
                await claims.end(conn, [_handed_back(row, row.attempt) for row in rows])


def _handed_back(row: Orphan, attempt: int) -> EndedAttempt:
    ending = end(HandedBack(), retries=row.retries, crashes=row.crashes, policy=Policy(), chance=0.0)
    return EndedAttempt(
        id=row.task_id,
        fence=row.fence,
        attempt=attempt,
        ending=ending,
        unique_key=row.unique_key,
        run_id=row.run_id,
    )
