"""Claims that wait for a slot, by kind of handler; suspects wait apart, see `qw.core.suspects`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from qw.core.suspects import CrashRecord, may_run_beside
from qw.handlers import HandlerKind
from qw.services.execution.in_flight import ClaimInFlight, HandlerSlots


class Backlog:
    """In claim order. Every operation on the hot path is O(1)."""

    def __init__(self, slots: HandlerSlots) -> None:
        self._slots = slots
        self._waiting: dict[HandlerKind, deque[ClaimInFlight]] = {kind: deque() for kind in slots.sizes}
        self._suspects: deque[ClaimInFlight] = deque()
        self._running_suspects: list[ClaimInFlight] = []

    def add(self, holding: ClaimInFlight) -> None:
        if holding.is_suspect:
            self._suspects.append(holding)
        else:
            self._waiting[holding.kind].append(holding)

    def startable(self, kind: HandlerKind, *, suspects: bool) -> Iterator[ClaimInFlight]:
        """Take what may start in the free slots of *kind*. The caller takes the slot before asking for the next."""
        while suspects and self._slots.free(kind) > 0 and (suspect := self._next_suspect(kind)):
            self._suspects.remove(suspect)
            self._running_suspects.append(suspect)
            yield suspect
        waiting = self._waiting[kind]
        while waiting and self._slots.free(kind) > 0:
            yield waiting.popleft()

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
        for queue in (*self._waiting.values(), self._suspects):
            kept = [holding for holding in queue if id(holding) not in gone]
            queue.clear()
            queue.extend(kept)

    def count(self, kind: HandlerKind) -> int:
        return len(self._waiting[kind])

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    @property
    def suspects(self) -> list[CrashRecord]:
        """The ids of all suspects that wait or run."""
        return [suspect.record for suspect in (*self._suspects, *self._running_suspects)]

    def spare_suspects(self) -> list[ClaimInFlight]:
        """The suspects that must not run concurrently with those before them."""
        company = [suspect.record for suspect in self._running_suspects]
        spare = []
        for suspect in self._suspects:
            if may_run_beside(suspect.record, company):
                company.append(suspect.record)
            else:
                spare.append(suspect)
        return spare

    def __iter__(self) -> Iterator[ClaimInFlight]:
        for queue in (*self._waiting.values(), self._suspects):
            yield from list(queue)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._suspects)
