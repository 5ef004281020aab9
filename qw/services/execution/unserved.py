"""Handles claims that no handler here can run: returned for other workers, or parked if no worker has one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from qw.clock import clock
from qw.core.ids import millis_of
from qw.core.task.ending import HandedBack, LeftToOthers, Outcome, Snoozed
from qw.services.execution.in_flight import ClaimInFlight
from qw.store import workers
from qw.store.connection import ReconnectingConnection

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # interval between checks that those other workers are alive
PARKED_LEAST, PARKED_MOST = timedelta(seconds=5), timedelta(minutes=10)


class Unserved:
    """``served_elsewhere``: types seen here that another live worker serves; their tasks stay in their lanes."""

    def __init__(
        self, link: ReconnectingConnection, worker: Callable[[], int], end: Callable[[ClaimInFlight, Outcome], None]
    ) -> None:
        self._link = link
        self._worker = worker
        self._end = end
        self._looked_at = 0.0
        self._parked: set[str] = set()
        self._misfits: set[str] = set()
        self.served_elsewhere: frozenset[str] = frozenset()

    async def part_with(self, taken: Sequence[ClaimInFlight]) -> None:
        """Hand back claims that another worker serves, or if that is unknown; park those that no worker serves."""
        types = frozenset(holding.claim.type for holding in taken)
        unserved: frozenset[str] = frozenset()
        try:
            await self._meet(types)
            unserved = types - self.served_elsewhere
        finally:
            for holding in taken:
                is_parked = holding.claim.type in unserved
                self._end(holding, self._parking(holding) if is_parked else HandedBack())

    async def look_again(self) -> None:
        """Drop types without a live worker from ``served_elsewhere``, periodically."""
        if self.served_elsewhere and time.monotonic() - self._looked_at > LOOK_SECONDS:
            met, self.served_elsewhere = self.served_elsewhere, frozenset()
            await self._meet(met)

    async def _meet(self, types: Collection[str]) -> None:
        async with self._link.use() as conn:
            self.served_elsewhere |= await workers.served_elsewhere(conn, self._worker(), types)
        self._looked_at = time.monotonic()

    def _parking(self, holding: ClaimInFlight) -> Outcome:
        """Park the task for as long as it is old, at least 5 s and at most 10 min. Logged once per type."""
        claim = holding.claim
        if claim.type not in self._parked:
            self._parked.add(claim.type)
            log.warning("no handler for this task type; its tasks are parked", extra={"type": claim.type})
        age = timedelta(seconds=clock.seconds() - millis_of(claim.id) / 1000)
        return Snoozed(delay=_pause(age), reason="unserved")

    def parked_misfit(self, holding: ClaimInFlight, error: str, unfit: timedelta) -> Outcome:
        """Park a task whose payload fits no worker, for as long as that is known (*unfit*). Logged once per type."""
        claim = holding.claim
        if claim.type not in self._misfits:
            self._misfits.add(claim.type)
            extra = {"type": claim.type, "task": str(claim.id), "error": error}
            log.warning("payload fits no version of the handler; such tasks are parked", extra=extra)
        return LeftToOthers(error=error, after=_pause(unfit))


def _pause(known: timedelta) -> timedelta:
    """Return the delay: as long as the fault is *known*, so that each delay doubles that time; 5 s to 10 min."""
    return min(max(known, PARKED_LEAST), PARKED_MOST)
