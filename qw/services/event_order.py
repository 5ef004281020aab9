"""What keeps the events of a task in order on their way out, and the cursor that spares the reader dead rows.

Of two events of one task the second can only be written once the first is committed, so any snapshot that has the
second has the first too, under a lower id: who reads everything from the start, in the order of ids, keeps the order.
Ids are taken before they are committed, so one may appear below what was read already. Such a row belongs to a
transaction that wrote to the outbox when that was read. Each reading notes these *writers*, and the first reading that
finds one gone begins again where that writer's rows may be (`Progress`). So a writer that takes long holds up nobody
else's events, and nothing of it is passed over.

`rounds`: the second event of a task is published when the broker has the first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from qw.store.events import Reading, Waiting

BATCH = 1024  # events per pass
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between tries of a broker in trouble
RESCAN_SECONDS = 60.0  # everything is looked at this often: a restored or truncated outbox has lower ids again


class ReadCursor:
    """Where the next reading begins. See the module.

    Passes are readings that found something. A writer that is first seen in one took its lock, and so its ids, after
    the pass before: they are above what that one had read, its floor. A writer that was open and is gone may have
    ended just after the snapshot of the pass that finds it gone, so it is known for one more. One that came and went
    between two passes is never seen; hence `cursor` is where the pass before the last ended.
    """

    def __init__(self) -> None:
        self._read_to = 0
        self._before = 0
        self._open: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._scanned_at = time.monotonic()

    @property
    def cursor(self) -> int:
        return min(self._read_to, self._before)

    @property
    def known(self) -> Mapping[str, int]:
        """Writers that may have rows below the cursor, with what those rows are above."""
        return {**self._gone, **self._open}

    def went_through(self, reading: Reading, *, is_cut: bool) -> None:
        """All of *reading* is told or blocked. *is_cut*: there may be more; the next begins again after its last."""
        floor = self._read_to
        self._gone = {writer: at for writer, at in self._open.items() if writer not in reading.writers}
        self._open = {writer: self._open.get(writer, floor) for writer in reading.writers}
        self._before, self._read_to = self._read_to, reading.last if is_cut else max(reading.last, self._read_to)

    def rescan_when_due(self, now: float) -> None:
        if now - self._scanned_at >= RESCAN_SECONDS:
            self._scanned_at, self._read_to, self._before = now, 0, 0


class Sorted:
    """Events by whether they could be told: ``told``, in order, and ``blocked``, by id, with the reason.

    What comes after a blocked event of the same task is blocked with it, without a reason of its own.
    """

    def __init__(self, waiting: Iterable[Waiting]) -> None:
        self.blocked: dict[int, str | None] = {}
        self._stuck: set[UUID] = set()
        self.told = list(waiting)
        self._sift({}, {w.id for w in self.told if w.is_behind})

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """These cannot be told, for these *reasons*."""
        if reasons:
            self._sift(reasons, set())

    def _sift(self, reasons: Mapping[int, str], behind: set[int]) -> None:
        if not reasons and not behind:
            return
        told = []
        for w in self.told:
            if w.id in reasons or w.id in behind or w.event.key in self._stuck:
                self._stuck.add(w.event.key)
                self.blocked[w.id] = reasons.get(w.id)
            else:
                told.append(w)
        self.told = told


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
