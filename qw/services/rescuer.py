"""Brings back the tasks of dead workers. No leader: whoever sees a death first, under the fence.

A worker is dead by lock when two looks half a second apart see neither its session lock nor a newer beat; that is about
a second after a kill. It is dead by silence when it was not seen for the length of a lease. Losing the database is not
dying: the lock counts only on the server on which it was taken, silence only after that server was up for a lease; and
a rescuer that lost contact itself judges nobody for a lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from qw.core.errors import Unavailable
from qw.core.task import Policy
from qw.core.task.ending import WorkerDied, end
from qw.services.lease import Lease
from qw.services.measures import Measures
from qw.store import claims, workers
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.workers import Look, Orphan

log = logging.getLogger(__name__)

BETWEEN_LOOKS = 0.5  # seconds
BATCH = 1000


class Rescuer:
    """See the module. ``locks``: whether session locks mean anything here (not behind a pooler)."""

    name = "rescuer"

    def __init__(
        self,
        link: ReconnectingConnection,
        worker: Callable[[], int],
        lease: Lease,
        measures: Measures,
        *,
        locks: bool,
        ended: Callable[[Sequence[EndedAttempt]], None] = lambda _: None,
    ) -> None:
        self._link = link
        self._worker = worker
        self._lease = lease
        self._measures = measures
        self._locks = locks
        self._ended = ended
        self._first_looks: dict[int, tuple[float, datetime | None]] = {}
        self._in_contact_since = time.monotonic()
        self._lost_contact = False
        self._quiet_until = 0.0
        self.bell = asyncio.Event()
        self.rescued = 0

    def patience(self) -> float:
        return BETWEEN_LOOKS + 0.01 if self._first_looks else 3600.0

    async def step(self) -> bool:
        try:
            return await self._step()
        except Unavailable:
            self._first_looks.clear()
            self._lost_contact = True
            raise

    async def _step(self) -> bool:
        async with self._link.use() as conn:
            looks = await workers.look(conn, worker=self._worker(), lease=self._lease.length)
            uptime = await workers.uptime(conn)
            if self._lost_contact:
                self._lost_contact, self._in_contact_since = False, time.monotonic()
                self._quiet_until = self._in_contact_since + self._lease.length.total_seconds()
            gone = [look.id for look in looks if look.gone]
            dead = self._judge([look for look in looks if not look.gone], uptime)
            buried = await workers.bury(conn, dead) if dead else []
            for worker in buried:
                log.warning("worker is dead", extra={"worker": worker})
            orphans = await workers.orphans(conn, gone + buried, limit=BATCH) if gone or buried else []
            if orphans:
                await self._bring_back(conn, orphans)
        return len(orphans) == BATCH

    def _judge(self, looks: Sequence[Look], uptime: timedelta) -> dict[int, datetime]:
        """Those who are dead, with the last time they were seen."""
        now = time.monotonic()
        if now < self._quiet_until:
            return {}
        silence_counts = uptime >= self._lease.length and self._has_long_been_in_contact(now)
        dead: dict[int, datetime] = {}
        suspects: dict[int, tuple[float, datetime | None]] = {}
        for look in looks:
            if look.seen_at is None:
                continue
            if look.silent and silence_counts:
                dead[look.id] = look.seen_at
            elif self._locks and look.same and not look.locked:
                first_at, seen_at = self._first_looks.get(look.id, (now, look.seen_at))
                if seen_at != look.seen_at:
                    first_at, seen_at = now, look.seen_at
                if now - first_at >= BETWEEN_LOOKS:
                    dead[look.id] = look.seen_at
                else:
                    suspects[look.id] = first_at, seen_at
        self._first_looks = suspects
        return dead

    def _has_long_been_in_contact(self, now: float) -> bool:
        """For a lease, by our own beats. Whoever was frozen himself may be the only one who was."""
        beating_since = self._lease.beating_since
        if beating_since is None:
            return False
        return now - max(beating_since, self._in_contact_since) >= self._lease.length.total_seconds()

    async def _bring_back(self, conn: Connection, orphans: Sequence[Orphan]) -> None:
        ended = [_ended(orphan) for orphan in orphans]
        mine = await claims.end(conn, ended)
        self.rescued += len(mine)
        self._measures.rescued([orphan.type for orphan in orphans if orphan.fence in mine])
        self._ended([e for e in ended if e.fence in mine])
        log.warning("tasks rescued", extra={"tasks": len(mine), "workers": sorted({o.worker for o in orphans})})


def _ended(orphan: Orphan) -> EndedAttempt:
    died = WorkerDied(worker=orphan.worker)
    ending = end(died, retries=orphan.retries, crashes=orphan.crashes, policy=Policy(), chance=0.0)
    return EndedAttempt(
        id=orphan.task_id,
        fence=orphan.fence,
        attempt=orphan.attempt,
        ending=ending,
        unique_key=orphan.unique_key,
        run_id=orphan.run_id,
        queue=orphan.queue,
    )
