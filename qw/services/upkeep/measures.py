"""Measures attempts at low cost, and adds the sums to those in the database periodically; samples the queues."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from qw import telemetry
from qw.core.errors import QwError, Unavailable
from qw.core.task import Status, measure
from qw.core.task.measure import Measure, bucketed, result_of
from qw.meters import Depth
from qw.services.execution.in_flight import ClaimInFlight
from qw.store import history, measures, queues, tasks
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, ReconnectingConnection

SECONDS = 5.0  # interval between writes; with 200 busy queues a write takes 50 ms of the server, 35 for the history
SAMPLE_SECONDS = 30.0  # interval of checks whether this minute's sample of the queues is due
MOST = 10_000  # attempts of a queue and type buffered before they are folded


@dataclass(slots=True)
class _Seen:
    """The attempts of one queue and type since the last fold, one element of each list per attempt."""

    waits: list[float] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)
    results: list[str] = field(default_factory=list)


class Measures:
    """Recording an attempt costs three appends; histogram buckets are counted per MOST attempts, or at the next write.

    A write whose commit is in doubt is repeated, so after a broken connection a few attempts may count twice.
    """

    name = "measures"

    def __init__(self, link: ReconnectingConnection) -> None:
        self._link = link
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._sums: dict[tuple[str, tuple[str, ...]], Measure] = {}
        self._sampled_at = float("-inf")
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return SECONDS

    def attempts(
        self, ended: Sequence[tuple[ClaimInFlight | None, EndedAttempt]], *, lost: Collection[int] = ()
    ) -> None:
        """Record ended attempts whose handler ran; the attempts with the fences *lost* are counted as lost."""
        otel = telemetry.meters()
        results: dict[int, str] = {}  # by the ending: most attempts share one
        for holding, end in ended:
            seconds, ending = end.seconds, end.ending
            if holding is None or holding.started is None or seconds is None:
                continue
            claim = holding.claim
            labels = claim.queue, claim.type
            seen = self._seen.get(labels)
            if seen is None:
                seen = self._seen[labels] = _Seen()
            if lost and end.fence in lost:
                result = measure.LOST
            elif (known := results.get(id(ending))) is not None:
                result = known
            else:
                result = results[id(ending)] = result_of(ending)
            waited = claim.waited + holding.started - holding.since
            seen.waits.append(waited)
            seen.runs.append(seconds)
            seen.results.append(result)
            if otel is not None:
                otel.attempt(claim.queue, claim.type, waited=waited, ran=seconds, result=result, kind=ending.kind)
            if len(seen.runs) >= MOST:
                self._fold(*labels)

    def rescued(self, types: Sequence[str]) -> None:
        """Count tasks of these types that were recovered from dead workers."""
        for type, count in Counter(types).items():
            self._add(Measure(measure.RESCUED, (type,), (count,)))

    async def step(self) -> bool:
        await self._write()
        if time.monotonic() - self._sampled_at >= SAMPLE_SECONDS:
            async with self._link.use() as conn:
                await history.sample(conn)
                if (otel := telemetry.meters()) is not None:
                    otel.sample(await _depths(conn))
            self._sampled_at = time.monotonic()
        return False

    async def _write(self) -> None:
        for labels in list(self._seen):
            self._fold(*labels)
        found, self._sums = list(self._sums.values()), {}
        if found:
            try:
                async with self._link.use() as conn:
                    await measures.add(conn, found)
            except Unavailable:
                for each in found:
                    self._add(each)
                raise

    async def stop(self) -> None:
        """Write the remaining measurements, if the database is available."""
        with contextlib.suppress(QwError):
            await self._write()

    def _fold(self, queue: str, type: str) -> None:
        labels = queue, type
        seen = self._seen.pop(labels)
        self._add(Measure(measure.WAIT, labels, bucketed(seen.waits), sum(seen.waits)))
        self._add(Measure(measure.RUN, labels, bucketed(seen.runs), sum(seen.runs)))
        for result, count in Counter(seen.results).items():
            self._add(Measure(measure.ATTEMPTS, (*labels, result), (count,)))

    def _add(self, new: Measure) -> None:
        key = new.name, new.labels
        known = self._sums.get(key)
        self._sums[key] = known.plus(new) if known else new


async def _depths(conn: Connection) -> list[Depth]:
    oldest = await queues.oldest(conn)
    return [
        Depth(
            queue=stats.queue,
            tasks={status.value: getattr(stats, status.value) for status in Status if not status.is_final},
            oldest=oldest.get(stats.queue, timedelta(0)).total_seconds(),
        )
        for stats in await tasks.stats(conn)
    ]
