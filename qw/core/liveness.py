"""Failure detection: the rules by which one daemon decides which other workers are dead.

Two criteria. *Crashed*: in two checks half a second apart the worker's session lock is gone and its beat counter did
not rise; the server releases the lock when the process ends. *Silent*: its beat counter did not rise for a whole lease
during which this daemon observed it. Times are seconds of this process's monotonic clock, so that neither the clock of
another machine nor a step of the database's can cause a false detection.

Time in which this daemon could not observe (frozen, or disconnected) counts for at most a third of a lease: the cause
may have affected the others too. After a reconnect it waits RECONNECT_SECONDS before it uses locks as evidence: the
sessions of the others may have ended with its own, and they need time to take their locks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

BETWEEN_LOOKS = 0.5  # seconds
RECONNECT_SECONDS = 4.0


class Death(StrEnum):
    """Why a worker was declared dead."""

    CRASHED = "crashed"
    SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look at a worker shows. ``locks``: it took its session lock on the server that is up now."""

    id: int
    beats: int
    locks: bool
    locked: bool


@dataclass(kw_only=True)
class _Watch:
    """What the judge remembers of one worker."""

    beats: int
    silent: float = 0.0
    unlocked_since: float | None = None


class Judge:
    """The observations of the other workers by one daemon. ``by_locks``: whether session locks can be observed."""

    def __init__(self, lease: float, *, by_locks: bool) -> None:
        self._lease = lease
        self._by_locks = by_locks
        self._watches: dict[int, _Watch] = {}
        self._looked_at: float | None = None
        self._locks_count_from = float("-inf")

    def lost_contact(self, now: float) -> None:
        """The connection to the database was lost, or is another one since the last look."""
        self._locks_count_from = now + RECONNECT_SECONDS
        for watch in self._watches.values():
            watch.unlocked_since = None

    def watch(self, now: float, beats: Mapping[int, int]) -> bool:
        """Record the beats of all other workers. True: one was silent for half a lease, so check again soon."""
        blind = self._lease / 3
        passed = min(now - self._looked_at, blind) if self._looked_at is not None else 0.0
        self._looked_at = now
        watches = {}
        for id, count in beats.items():
            known = self._watches.get(id)
            if known is None or known.beats != count:
                watches[id] = _Watch(beats=count)
            else:
                known.silent += passed
                watches[id] = known
        self._watches = watches
        return any(watch.silent >= self._lease / 2 for watch in watches.values())

    def judge(self, now: float, looks: Iterable[Look]) -> dict[int, Death]:
        """The dead workers; call `watch` with the same observation first."""
        dead = {}
        for look in looks:
            watch = self._watches[look.id]
            if watch.silent >= self._lease:
                dead[look.id] = Death.SILENT
            elif self._lost_its_lock(now, look, watch):
                dead[look.id] = Death.CRASHED
        return dead

    def _lost_its_lock(self, now: float, look: Look, watch: _Watch) -> bool:
        if not self._by_locks or not look.locks or look.locked or now < self._locks_count_from:
            watch.unlocked_since = None
            return False
        if watch.unlocked_since is None:
            watch.unlocked_since = now
        return now - watch.unlocked_since >= BETWEEN_LOOKS

    def next_look(self, now: float) -> float | None:
        """In how many seconds a verdict may be due that no poll would bring in time. None: none is in sight."""
        waits = [
            BETWEEN_LOOKS - (now - w.unlocked_since) for w in self._watches.values() if w.unlocked_since is not None
        ]
        for watch in self._watches.values():
            if watch.silent >= self._lease / 2:
                waits.append(min(self._lease - watch.silent, self._lease / 4))
        return max(0.0, min(waits)) + 0.01 if waits else None
