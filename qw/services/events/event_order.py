"""Keeps the events of a task in order when they are published, and the cursor with which reads skip dead rows.

The second of two events of a task can only be written after the first is committed, so every snapshot that contains
the second also contains the first, with a lower id: reading from the start in id order preserves the order. Ids are
allocated before commit, so a row may appear below the last id read. Such a row belongs to a transaction that was
writing to the outbox at the time of that read. Each read records these *writers*, and the first read after one has
finished starts again where that writer's rows may be (`ReadCursor`). So a long-running writer delays no other events,
and none of its own are skipped.

`rounds`: the second event of a task is published once the broker has confirmed the first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from uuid import UUID

from qw.store.events import Reading, Waiting

BATCH = 1024  # events per pass
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between attempts to reach a failing broker
RESCAN_SECONDS = 60.0  # interval of full scans: a restored or truncated outbox starts again with lower ids


class ReadCursor:
    """Where the next read starts. See the module.

    A pass is a read that found something. A writer first seen in a pass took its lock, and then its ids, after the
    pass before: its ids are above the last id of that pass, its floor. A writer that has finished may have committed
    just after the snapshot of the pass that no longer sees it, so it is kept for one more pass. A writer that began
    and finished between two passes is never seen; therefore `cursor` is not above the end of the last pass but one.
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
        """Writers that may have rows below the cursor, each with the lower bound of the ids of those rows."""
        return {**self._gone, **self._open}

    def went_through(self, reading: Reading, *, is_cut: bool) -> None:
        """Record that all events of *reading* are published or blocked. *is_cut*: there may be more after them."""
        floor = self._read_to
        self._gone = {writer: at for writer, at in self._open.items() if writer not in reading.writers}
        self._open = {writer: self._open.get(writer, floor) for writer in reading.writers}
        self._before, self._read_to = self._read_to, reading.last if is_cut else max(reading.last, self._read_to)

    def found_nothing(self, writers: Set[str]) -> None:
        """Record that a read found no event. *writers*: those that were still writing after it.

        A writer that has ended is kept for one more read, as in `went_through`: it may have committed after this one.
        """
        self._gone = {writer: at for writer, at in self._open.items() if writer not in writers}
        self._open = {writer: at for writer, at in self._open.items() if writer in writers}

    def rescan_when_due(self, now: float) -> None:
        if now - self._scanned_at >= RESCAN_SECONDS:
            self._scanned_at, self._read_to, self._before = now, 0, 0


class Sorted:
    """Events by whether they can be published: ``publishable``, in order, and ``blocked``: reasons by event id.

    Events after a blocked event of the same task are blocked too, with None as reason.
    """

    def __init__(self, waiting: Iterable[Waiting]) -> None:
        self.blocked: dict[int, str | None] = {}
        self._stuck: set[UUID] = set()
        self.publishable = list(waiting)
        self._sift({}, {w.id for w in self.publishable if w.is_behind})

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Block these events, for the given *reasons*."""
        if reasons:
            self._sift(reasons, set())

    def _sift(self, reasons: Mapping[int, str], behind: set[int]) -> None:
        if not reasons and not behind:
            return
        publishable = []
        for w in self.publishable:
            if w.id in reasons or w.id in behind or w.event.key in self._stuck:
                self._stuck.add(w.event.key)
                self.blocked[w.id] = reasons.get(w.id)
            else:
                publishable.append(w)
        self.publishable = publishable


def rounds(waiting: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    """Yield the first event of every key, then the second of every key, and so on."""
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
