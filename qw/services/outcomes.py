"""Writes how attempts ended: in batches, under the fence, until the database has taken each or refused it for good."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from qw.core.errors import QwError, Unavailable
from qw.core.task import Status
from qw.core.task.ending import Ending
from qw.services.in_flight import InFlight
from qw.services.measures import Measures
from qw.store import claims
from qw.store.claims import EndedAttempt
from qw.store.connection import ReconnectingConnection, blames_data

log = logging.getLogger(__name__)

BATCH = 2000


class Outcomes:
    """A batch is what gathered while the last one was written; a lone outcome goes at once.

    When the connection breaks, the commit is in doubt: the batch is written again, and what is refused then is looked
    up by its fence before it counts as lost. A batch refused for what it contains is halved until the culprit stands
    alone; that task fails with the database's words.
    """

    name = "outcomes"

    def __init__(
        self,
        link: ReconnectingConnection,
        holdings: InFlight,
        worker: Callable[[], int],
        measures: Measures,
        *,
        ended: Callable[[Sequence[EndedAttempt]], None] = lambda _: None,
    ) -> None:
        self._link = link
        self._holdings = holdings
        self._worker = worker
        self._measures = measures
        self._ended = ended
        self._pending: deque[EndedAttempt] = deque()
        self._doubtful: set[int] = set()
        self._in_flight = 0
        self.bell = asyncio.Event()
        self.drained = asyncio.Event()
        self.drained.set()

    def add(self, ended: EndedAttempt) -> None:
        self._pending.append(ended)
        self.drained.clear()
        self.bell.set()

    def doubt(self, fence: int) -> None:
        """An end of this fence may be stored already: look it up before calling it lost."""
        self._doubtful.add(fence)

    def __len__(self) -> int:
        return len(self._pending) + self._in_flight

    def patience(self) -> float:
        return 3600.0  # the bell rings for every outcome

    async def step(self) -> bool:
        batch = [self._pending.popleft() for _ in range(min(BATCH, len(self._pending)))]
        if not batch:
            return False
        self._in_flight = len(batch)
        try:
            await self._write(batch)
        except BaseException as error:
            # What was stored of it is refused by its fence the next time, and found by the look-up.
            self._doubtful.update(e.fence for e in batch)
            self._pending.extendleft(reversed(batch))
            if not isinstance(error, Unavailable):
                log.exception("outcome batch failed", extra={"tasks": len(batch)})
            raise
        finally:
            self._in_flight = 0
            if not self._pending:
                self.drained.set()
        return bool(self._pending)

    async def _write(self, batch: Sequence[EndedAttempt]) -> None:
        try:
            async with self._link.use() as conn:
                mine = await claims.end(conn, batch)
        except QwError as error:
            if not blames_data(error):
                raise
            self._doubtful.update(e.fence for e in batch)  # it takes two statements; the first may have been stored
            await self._write_apart(batch, error)
            return
        lost = await self._settle_lost([e for e in batch if e.fence not in mine])
        self._measures.attempts([(self._holdings.pop(e.fence), e) for e in batch], lost=lost)
        self._doubtful.difference_update(e.fence for e in batch)
        self._ended(batch)

    async def _write_apart(self, batch: Sequence[EndedAttempt], error: QwError) -> None:
        if len(batch) > 1:
            half = len(batch) // 2
            await self._write(batch[:half])
            await self._write(batch[half:])
            return
        (refused,) = batch
        log.error("outcome refused", extra={"task": str(refused.id), "error": str(error)})
        ending = Ending(
            status=Status.FAILED,
            retries=refused.ending.retries,
            crashes=refused.ending.crashes,
            error=f"the database refused the outcome: {error}",
        )
        if ending.error == refused.ending.error:
            raise Unavailable(ending.error or "")  # it refuses even that: ask again later
        await self._write([refused._replace(ending=ending)])

    async def _settle_lost(self, refused: Sequence[EndedAttempt]) -> set[int]:
        """Record those that lost their lease. Returns their fences."""
        if not refused:
            return set()
        async with self._link.use() as conn:
            doubtful = [e for e in refused if e.fence in self._doubtful]
            known = await claims.recorded(conn, doubtful) if doubtful else set()
            lost = [
                e
                for e in refused
                if e.fence not in known
                and e.seconds is not None
                and not (e.fence in self._doubtful and e.ending.outcome is None and not e.ending.status.is_final)
            ]
            if lost:
                await claims.record_lost(conn, self._worker(), lost)
        for ended in lost:
            log.warning("lease lost", extra={"task": str(ended.id), "fence": ended.fence})
        return {ended.fence for ended in lost}
