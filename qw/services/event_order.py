"""What keeps the events of a task in order on their way out.

Ids are given before they are committed, so a lower one may appear after a higher one was read, and an event that is
read too early may overtake the one before it. The cursor, which spares the reader the dead rows behind it, therefore
stops where a transaction that was open at an earlier reading may still add a row: ids up to the highest one read are
settled once every transaction that had begun by then is over (`Progress`). Of two events of one task the second is
published when the broker has the first (`rounds`); what it refuses holds back what follows of the same task (`Held`).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from qw.store.events import Waiting

BATCH = 1024  # events per pass
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between tries of a broker in trouble
RESCAN_SECONDS = 60.0  # whatever the cursor believes, everything is looked at this often
MOST_MARKS = 64


@dataclass(frozen=True, kw_only=True)
class Handed:
    """How a pass went: ids (of the outbox) that every target has, what the broker refused, and why it broke off."""

    done: list[int]
    refused: list[Waiting]
    trouble: str | None = None


class ReadCursor:
    """Up to which id everything was read, and can never again appear. See the module, *Order*."""

    def __init__(self) -> None:
        self.cursor = 0
        self._marks: deque[tuple[int, int]] = deque()  # once transactions below the first are over, ids to the second
        self._scanned_at = time.monotonic()

    def went_through(self, waiting: Sequence[Waiting]) -> None:
        """All of *waiting*, which are the first after the cursor, are done with, or held."""
        while self._marks and self._marks[0][0] <= waiting[0].horizon:
            self.cursor = max(self.cursor, self._marks.popleft()[1])
        if len(self._marks) == MOST_MARKS:
            self._marks.pop()
        self._marks.append((waiting[0].next, waiting[-1].id))

    def rescan_when_due(self, now: float) -> None:
        if now - self._scanned_at >= RESCAN_SECONDS:
            self.cursor, self._scanned_at = 0, now
            self._marks.clear()


class HeldEvents:
    """Events that the broker refused, and those behind them, by their ids in the outbox."""

    def __init__(self) -> None:
        self._keys: dict[int, UUID] = {}
        self._round: list[int] = []  # what is still to be tried before the next pause
        self._pause = FIRST_PAUSE
        self.retry_at = 0.0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def ids(self) -> list[int]:
        return list(self._keys)

    def due(self, now: float) -> list[int]:
        """Those to be tried now, at most a batch."""
        if self._keys and not self._round and now >= self.retry_at:
            self._round = sorted(self._keys)
        return self._round[:BATCH]

    def keys_before(self, chosen: Sequence[Waiting]) -> set[UUID]:
        """The keys of *chosen* that have an earlier event held which is not among them."""
        if not self._keys:
            return set()
        ids = {w.id for w in chosen}
        first: dict[UUID, int] = {}
        for id, key in self._keys.items():
            if id not in ids:
                first[key] = min(id, first.get(key, id))
        return {w.event.key for w in chosen if first.get(w.event.key, w.id) < w.id}

    def settle(self, retried: Sequence[int], handed: Handed) -> None:
        """Take in what was refused, let go what is done, and what was *retried* and is gone."""
        if retried and handed.trouble is None:
            self._round = self._round[len(retried) :]
            for id in retried:
                self._keys.pop(id, None)
        for id in handed.done:
            self._keys.pop(id, None)
        for w in handed.refused:
            self._keys[w.id] = w.event.key
        if handed.refused and not self._round:
            self._pause = min(self._pause * 2, LONGEST_PAUSE) if retried else FIRST_PAUSE
            self.retry_at = time.monotonic() + self._pause


def rounds(waiting: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    """The first event of every key, then the second of every key, and so on."""
    made: list[list[Waiting]] = []
    seen: Counter[int] = Counter()
    for w in waiting:
        key = w.event.key.int  # the hash of a UUID is computed in Python
        number = seen[key]
        seen[key] += 1
        if number == len(made):
            made.append([])
        made[number].append(w)
    yield from made
