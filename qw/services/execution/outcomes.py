"""Writes the outcomes of attempts: in batches, fenced, until the database has stored or finally rejected each."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence

from qw.core.errors import QwError, Unavailable
from qw.core.task import Status
from qw.core.task.ending import Ending
from qw.core.task.payload import clean_error
from qw.services.execution.in_flight import InFlight
from qw.services.upkeep.measures import Measures
from qw.store import claims
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.errors import blames_data

log = logging.getLogger(__name__)

BATCH = 2000


class Outcomes:
    """A batch is what accumulated during the last write; a single outcome is written immediately.

    If the connection breaks, the commit is in doubt: the batch is written again, and outcomes rejected then are looked
    up by their fences before they count as lost. A batch whose data the database rejects is bisected until the faulty
    outcome is alone; that task fails with the database's error.
    """

    name = "outcomes"

    def __init__(
        self,
        link: ReconnectingConnection,
        in_flight: InFlight,
        worker: Callable[[], int],
        measures: Measures,
        *,
        ended: Callable[[Sequence[EndedAttempt]], None] = lambda _: None,
        store: Callable[[Connection, Sequence[EndedAttempt]], Awaitable[set[int]]] = claims.end,
    ) -> None:
        self._link = link
        self._in_flight = in_flight
        self._worker = worker
        self._measures = measures
        self._ended = ended
        self._store = store
        self._pending: deque[EndedAttempt] = deque()
        self._refused: list[EndedAttempt] = []
        self._doubtful: set[int] = set()
        self._storing = 0
        self._batch: list[EndedAttempt] = []
        self.bell = asyncio.Event()
        self.drained = asyncio.Event()
        self.drained.set()

    def add(self, ended: EndedAttempt) -> None:
        if not self._pending:
            self.drained.clear()
            self.bell.set()
        self._pending.append(ended)

    def doubt(self, fence: int) -> None:
        """Mark a fence whose outcome may already be stored: look it up before treating it as lost."""
        self._doubtful.add(fence)

    def unwritten(self) -> list[EndedAttempt]:
        """Return the outcomes that are not known to be stored."""
        return [*self._batch, *self._pending, *self._refused]

    def __len__(self) -> int:
        return len(self._pending) + self._storing

    def max_wait(self) -> float:
        return 3600.0  # the bell is set for every outcome

    def stored(self, ended: Sequence[EndedAttempt], *, lost: Collection[int] = ()) -> None:
        """Release the claims of stored outcomes, record measurements and notify waiters.

        Called for every way in which an attempt can end.
        """
        self._measures.attempts([(self._in_flight.pop(e.fence), e) for e in ended], lost=lost)
        if self._doubtful:
            self._doubtful.difference_update(e.fence for e in ended)
        try:
            self._ended(ended)
        except Exception:
            log.exception("outcomes could not be queued", extra={"tasks": len(ended)})

    async def step(self) -> bool:
        batch = [self._pending.popleft() for _ in range(min(BATCH, len(self._pending)))]
        if not batch:
            return False
        self._storing = len(batch)
        self._batch = batch
        try:
            await self._write(batch)
        except BaseException:
            # If some of them were stored, the next write rejects them by their fence, and the look-up finds them.
            self._doubtful.update(e.fence for e in batch)
            self._pending.extendleft(reversed(batch))
            self._refused.clear()
            raise
        finally:
            self._storing = 0
            self._batch = []
            if not self._pending and not self._refused:
                self.drained.set()
        if self._refused:
            refused, self._refused = self._refused, []
            self._pending += refused  # last, so that the others are not delayed
            raise Unavailable(f"the database refuses {len(refused)} outcomes: {refused[0].ending.error}")
        return bool(self._pending)

    async def _write(self, batch: Sequence[EndedAttempt]) -> None:
        try:
            async with self._link.use() as conn:
                mine = await self._store(conn, batch)
        except Exception as error:
            if not blames_data(error):
                raise
            self._doubtful.update(e.fence for e in batch)  # a write takes two statements; the first may have committed
            await self._write_apart(batch, error)
            return
        lost = await self._settle_lost([e for e in batch if e.fence not in mine])
        self.stored(batch, lost=lost)

    async def _write_apart(self, batch: Sequence[EndedAttempt], error: Exception) -> None:
        if len(batch) > 1:
            half = len(batch) // 2
            await self._write(batch[:half])
            await self._write(batch[half:])
            return
        (refused,) = batch
        log.error("outcome rejected by the database", extra={"task": str(refused.id), "error": _said(error)})
        who = "the database rejected the outcome" if isinstance(error, QwError) else "the outcome could not be written"
        ending = Ending(
            status=Status.FAILED,
            retries=refused.ending.retries,
            crashes=refused.ending.crashes,
            error=clean_error(f"{who}: {_said(error)}"),
        )
        if ending.error == refused.ending.error:
            self._refused.append(refused)  # the failure was rejected too: retry later
            return
        await self._write([refused._replace(ending=ending)])

    async def _settle_lost(self, refused: Sequence[EndedAttempt]) -> set[int]:
        """Record the outcomes of attempts that lost their lease. Return their fences."""
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
            await self._record_lost(lost)
        return {ended.fence for ended in lost}

    async def _record_lost(self, lost: Sequence[EndedAttempt]) -> None:
        for ended in lost:
            log.warning("lease lost", extra={"task": str(ended.id), "fence": ended.fence})
        try:
            async with self._link.use() as conn:
                await claims.record_lost(conn, self._worker(), lost)
        except Exception as error:  # the task belongs to another attempt; this record is informational
            if not blames_data(error):
                raise
            log.error("late results not recorded", extra={"tasks": len(lost), "error": _said(error)})


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, QwError) else f"{type(error).__name__}: {error}"
