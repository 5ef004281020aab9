"""Stores outcomes together with what follows from them: the next steps of runs, the tasks that waited for others.

Between a step and the next, the commit takes longer than everything else, since it waits for the disk. So one
transaction stores the end of a step, enqueues the next one and claims it. This is only a short cut: whatever is locked
elsewhere, needs more than a few statements or cannot be stored stays in the inboxes of the advancer and the resumer,
which do the same work. A busy worker does not claim here, and claims the new tasks as usual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from qw.core.task import Lane
from qw.engine.advance import advance_ended
from qw.services.execution.worker import Worker
from qw.store import checkpoints, claims
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection

log = logging.getLogger(__name__)

MOST = 50  # maximum outcomes per transaction: with more, the commit costs less per outcome, and outcomes are delayed


class Continuation:
    """``enqueued`` is called with the lanes that got tasks, once they are committed."""

    def __init__(self, worker: Worker, enqueued: Callable[[Iterable[Lane]], None] = lambda _: None) -> None:
        self._worker = worker
        self._enqueued = enqueued

    async def end(self, conn: Connection, ended: Sequence[EndedAttempt]) -> set[int]:
        """As `claims.end`. Stores the outcomes together with what follows from them, or else the outcomes alone."""
        final = [e for e in ended if e.ending.status.is_final]
        runs = {e.run_id for e in final if e.run_id is not None}
        # Not for suspensions: their wait has rarely ended yet, and its end would be delayed by this transaction.
        resumes = any(e.parent_id is not None for e in final)
        if len(ended) > MOST or not (runs or resumes):
            return await claims.end(conn, ended)
        try:
            async with conn.transaction():
                mine = await claims.end(conn, ended)
                lanes = await self._continue(conn, runs, resumes=resumes)
                batch = await self._worker.claim_along(conn, lanes) if lanes else None
        except Exception:
            if conn.closed:
                raise
            log.debug("left to the advancer and the resumer", exc_info=True)
            return await claims.end(conn, ended)
        if batch is None or batch.is_full:
            self._worker.woken(lanes)
        if batch is not None:
            await self._worker.accept(batch)
        if lanes:
            self._enqueued(lanes)
        return mine

    async def _continue(self, conn: Connection, runs: Iterable[UUID], *, resumes: bool) -> set[Lane]:
        await claims.limit_lock_waits(conn, self._worker.number)
        lanes = await advance_ended(conn, runs) if runs else set()
        if resumes:
            _, resumed = await checkpoints.resume(conn, limit=MOST)
            lanes.update(resumed)
        return lanes
