"""Claims that wait for a slot, by kind of handler; suspects wait separately, see `qw.core.suspects`.

Claims for a batch are gathered by type until the batch is full or the first claim has waited long enough.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile

from qw.core.suspects import CrashRecord, may_run_beside
from qw.handlers import HandlerKind
from qw.services.execution.in_flight import ClaimInFlight, HandlerSlots


class Backlog:
    """Waiting claims, in claim order. Every operation on the hot path is O(1)."""

    def __init__(self, slots: HandlerSlots) -> None:
        self._slots = slots
        self._waiting: dict[HandlerKind, deque[ClaimInFlight]] = {kind: deque() for kind in slots.sizes}
        self._gathered: dict[str, deque[ClaimInFlight]] = {}  # by type; none is empty
        self._suspects: deque[ClaimInFlight] = deque()
        self._running_suspects: list[ClaimInFlight] = []

    def add(self, holding: ClaimInFlight) -> None:
        if holding.is_suspect:
            self._suspects.append(holding)
        elif holding.batch_options is not None:
            self._gathered.setdefault(holding.claim.type, deque()).append(holding)
        else:
            self._waiting[holding.kind].append(holding)

    def startable(self, kind: HandlerKind, *, suspects: bool) -> list[ClaimInFlight]:
        """Remove and return what may start in the free slots of *kind*."""
        free = self._slots.free(kind)
        start: list[ClaimInFlight] = []
        while suspects and len(start) < free and (suspect := self._next_suspect(kind)):
            self._suspects.remove(suspect)
            self._running_suspects.append(suspect)
            start.append(suspect)
        waiting = self._waiting[kind]
        start += [waiting.popleft() for _ in range(min(len(waiting), free - len(start)))]
        return start

    def batches(self, kind: HandlerKind, now: float) -> Iterator[list[ClaimInFlight]]:
        """Remove and yield the batches that may start in the free slots of *kind*. Take the slot before asking for the
        next.
        """
        for type, gathered in list(self._gathered.items()):
            while gathered and gathered[0].kind is kind and self._slots.free(kind) > 0:
                if len(gathered) < _size(gathered) and gathered[0].since + _wait(gathered[0]) > now:
                    break
                yield [gathered.popleft() for _ in range(min(_size(gathered), len(gathered)))]
            if not gathered:
                self._gathered.pop(type, None)

    def next_due(self, now: float) -> float:
        """Return when the next incomplete batch has waited long enough; infinity if none is waiting for that."""
        due = (gathered[0].since + _wait(gathered[0]) for gathered in self._gathered.values())
        return min((time for time in due if time > now), default=math.inf)

    def missing(self, kind: HandlerKind) -> int:
        """Return how many more claims the incomplete batches could take."""
        ofs = [gathered for gathered in self._gathered.values() if gathered[0].kind is kind]
        return sum(max(0, _size(gathered) - len(gathered)) for gathered in ofs)

    def stale(self, now: float, seconds: float) -> list[ClaimInFlight]:
        """Return the claims without a slot for *seconds*, not counting the time that they wait for their batch.

        The oldest are first in each queue, so that a call reads one claim per queue, not thousands.
        """
        queues = (*self._waiting.values(), *self._gathered.values(), self._suspects)
        return [
            holding
            for queue in queues
            for holding in takewhile(lambda waiting: now - waiting.since > seconds + _wait(waiting), queue)
        ]

    def _next_suspect(self, kind: HandlerKind) -> ClaimInFlight | None:
        running = [suspect.record for suspect in self._running_suspects]
        fitting = (s for s in self._suspects if s.kind is kind and may_run_beside(s.record, running))
        return next(fitting, None)

    def ended(self, holding: ClaimInFlight) -> None:
        """Remove a claim that no longer runs."""
        if holding in self._running_suspects:
            self._running_suspects.remove(holding)

    def remove(self, in_flight: list[ClaimInFlight]) -> None:
        gone = set(map(id, in_flight))
        for queue in (*self._waiting.values(), *self._gathered.values(), self._suspects):
            kept = [holding for holding in queue if id(holding) not in gone]
            queue.clear()
            queue.extend(kept)
        self._gathered = {type: queue for type, queue in self._gathered.items() if queue}

    def count(self, kind: HandlerKind) -> int:
        """Return the number of waiting claims, without those gathered for batches."""
        return len(self._waiting[kind])

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    @property
    def suspects(self) -> list[CrashRecord]:
        """The crash records of all suspects that wait or run."""
        return [suspect.record for suspect in (*self._suspects, *self._running_suspects)]

    def spare_suspects(self) -> list[ClaimInFlight]:
        """Return the suspects that must not run concurrently with those before them."""
        company = [suspect.record for suspect in self._running_suspects]
        spare = []
        for suspect in self._suspects:
            if may_run_beside(suspect.record, company):
                company.append(suspect.record)
            else:
                spare.append(suspect)
        return spare

    def __iter__(self) -> Iterator[ClaimInFlight]:
        for queue in (*self._waiting.values(), *self._gathered.values(), self._suspects):
            yield from list(queue)

    def __len__(self) -> int:
        gathered = sum(map(len, self._gathered.values()))
        return sum(map(len, self._waiting.values())) + gathered + len(self._suspects)


def _size(gathered: Sequence[ClaimInFlight]) -> int:
    options = gathered[0].batch_options
    return options.size if options is not None else 1


def _wait(holding: ClaimInFlight) -> float:
    """Return for how many seconds *holding* may wait for its batch; a suspect runs on its own."""
    options = None if holding.is_suspect else holding.batch_options
    return options.wait_seconds if options is not None else 0.0
