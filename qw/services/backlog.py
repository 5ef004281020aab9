"""Claims that wait for a slot, by kind of handler; suspects wait apart, since one runs at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from qw.handlers import HandlerKind
from qw.services.in_flight import ClaimInFlight, HandlerSlots


class Backlog:
    """In the order claimed. Every operation on the hot path costs the same however much waits."""

    def __init__(self, slots: HandlerSlots) -> None:
        self._slots = slots
        self._waiting: dict[HandlerKind, deque[ClaimInFlight]] = {kind: deque() for kind in slots.sizes}
        self._suspects: deque[ClaimInFlight] = deque()
        self.suspect: ClaimInFlight | None = None  # the one that runs

    def add(self, holding: ClaimInFlight) -> None:
        if holding.is_suspect:
            self._suspects.append(holding)
        else:
            self._waiting[holding.kind].append(holding)

    def startable(self, kind: HandlerKind, *, suspects: bool) -> Iterator[ClaimInFlight]:
        """Take what may start in the free slots of *kind*. The caller takes the slot before asking for the next."""
        may_start = suspects and self._suspects and self.suspect is None
        if may_start and self._suspects[0].kind is kind and self._slots.free(kind) > 0:
            self.suspect = self._suspects.popleft()
            yield self.suspect
        waiting = self._waiting[kind]
        while waiting and self._slots.free(kind) > 0:
            yield waiting.popleft()

    def remove(self, holdings: list[ClaimInFlight]) -> None:
        gone = set(map(id, holdings))
        for queue in (*self._waiting.values(), self._suspects):
            kept = [holding for holding in queue if id(holding) not in gone]
            queue.clear()
            queue.extend(kept)

    def count(self, kind: HandlerKind) -> int:
        return len(self._waiting[kind])

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    def spare_suspects(self) -> list[ClaimInFlight]:
        """The suspects that wait beside another one."""
        return list(self._suspects)[0 if self.suspect else 1 :]

    def __iter__(self) -> Iterator[ClaimInFlight]:
        for queue in (*self._waiting.values(), self._suspects):
            yield from list(queue)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._suspects)
