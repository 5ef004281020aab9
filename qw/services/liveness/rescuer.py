"""Recovers the tasks of dead workers. No leader: the first daemon that detects a dead worker, protected by the fence.

`qw.core.liveness` decides which workers are dead: about a second after a kill, one lease after the last heartbeat of a
frozen or disconnected worker.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from qw.core.errors import Unavailable
from qw.core.liveness import Judge
from qw.core.task import Policy, Status
from qw.core.task.ending import SUSPECT_CRASHES, Outcome, WorkerDied, WorkerSilent, end
from qw.services.liveness import lease as clock
from qw.services.upkeep.measures import Measures
from qw.store import claims, workers
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.workers import Orphan

log = logging.getLogger(__name__)

BATCH = 1000


class Rescuer:
    """See the module. ``locks``: whether session locks can be used (not behind a pooler)."""

    name = "rescuer"

    def __init__(
        self,
        link: ReconnectingConnection,
        worker: Callable[[], int],
        lease: timedelta,
        measures: Measures,
        *,
        locks: bool,
        ended: Callable[[Sequence[EndedAttempt]], None] = lambda _: None,
    ) -> None:
        self._link = link
        self._worker = worker
        self._measures = measures
        self._ended = ended
        self._judge = Judge(lease.total_seconds(), by_locks=locks)
        self._watched_by: Connection | None = None
        self.bell = asyncio.Event()
        self.rescued = 0

    def max_wait(self) -> float:
        wait = self._judge.next_check(clock.now())
        return 3600.0 if wait is None else wait

    def watch(self, beats: Mapping[int, int]) -> None:
        """Record the beats of the other workers, from every poll."""
        if self._judge.watch(clock.now(), beats):
            self.bell.set()

    def lost_contact(self) -> None:
        """Record that this daemon lost its connection; the other workers may have lost theirs."""
        self._judge.lost_contact(clock.now())

    async def step(self) -> bool:
        try:
            return await self._step()
        except Unavailable:
            self.lost_contact()
            raise

    async def _step(self) -> bool:
        async with self._link.use() as conn:
            if conn is not self._watched_by:
                if self._watched_by is not None:
                    self.lost_contact()
                self._watched_by = conn
            others, gone = await workers.other_workers(conn, worker=self._worker())
            now = clock.now()
            self._judge.watch(now, {other.id: other.beats for other in others})
            deaths = self._judge.judge(now, others)
            dead = await workers.mark_dead(conn, {other: deaths[other.id] for other in others if other.id in deaths})
            for worker in dead:
                log.warning("worker declared dead", extra={"worker": worker, "sign": deaths[worker].value})
            orphans = await workers.orphans(conn, gone + dead, limit=BATCH) if gone or dead else []
            if orphans:
                await self._bring_back(conn, orphans)
        return len(orphans) == BATCH

    async def _bring_back(self, conn: Connection, orphans: Sequence[Orphan]) -> None:
        suspects = Counter(orphan.worker for orphan in orphans if orphan.crashes >= SUSPECT_CRASHES)
        ended = [_ended(orphan, suspects[orphan.worker]) for orphan in orphans]
        mine = await claims.end(conn, ended)
        for orphan, ending in zip(orphans, ended, strict=True):
            if orphan.crashed and ending.ending.status is Status.FAILED and ending.fence in mine:
                await workers.explain_crashes(conn, orphan.task_id)
        self.rescued += len(mine)
        self._measures.rescued([orphan.type for orphan in orphans if orphan.fence in mine])
        self._ended([e for e in ended if e.fence in mine])
        log.warning("tasks rescued", extra={"tasks": len(mine), "workers": sorted({o.worker for o in orphans})})


def _ended(orphan: Orphan, suspects: int) -> EndedAttempt:
    died: Outcome
    if orphan.crashed:
        died = WorkerDied(worker=orphan.worker, alone=suspects <= 1)
    else:
        died = WorkerSilent(worker=orphan.worker, losses=orphan.losses)
    ending = end(died, retries=orphan.retries, crashes=orphan.crashes, policy=Policy(), chance=random.random())
    return EndedAttempt(
        id=orphan.task_id,
        fence=orphan.fence,
        attempt=orphan.attempt,
        ending=ending,
        unique_key=orphan.unique_key,
        run_id=orphan.run_id,
        queue=orphan.queue,
        parent_id=orphan.parent_id,
    )
