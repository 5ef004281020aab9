"""Failure detection: the rules by which one daemon decides which other workers are dead.

There are two criteria. *Crashed*: in two checks half a second apart, the worker's session lock is not held and its
beat counter did not rise; the server releases the lock when the process ends. *Silent*: its beat counter did not rise
for a whole lease during which this daemon observed it. Times are seconds of this process's monotonic clock, so neither
another machine's clock nor a step of the database's clock can cause a false detection.

Time in which this daemon could not observe (frozen, or disconnected) counts for at most a third of a lease, because
the cause may have affected the other workers too. After a reconnect, the daemon waits RECONNECT_SECONDS before it uses
locks as evidence: the other sessions may have ended together with its own, and need time to take their locks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

BETWEEN_CHECKS = 0.5  # seconds
RECONNECT_SECONDS = 4.0


class Death(StrEnum):
    """Why a worker was declared dead."""

    CRASHED = "crashed"
    SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One observation of a worker. ``locks``: the worker took its session lock on the server that is running now."""

    id: int
    beats: int
    locks: bool
    locked: bool


@dataclass(kw_only=True)
class _Watch:
    """What the judge remembers about one worker."""

    beats: int
    silent: float = 0.0
    unlocked_since: float | None = None


class Judge:
    """One daemon's observations of the other workers. ``by_locks``: whether session locks can be observed."""

    def __init__(self, lease: float, *, by_locks: bool) -> None:
        self._lease = lease
        self._by_locks = by_locks
        self._watches: dict[int, _Watch] = {}
        self._watched_at: float | None = None
        self._locks_count_from = float("-inf")

    def lost_contact(self, now: float) -> None:
        """Record that the database connection was lost, or replaced, since the last check."""
        self._locks_count_from = now + RECONNECT_SECONDS
        for watch in self._watches.values():
            watch.unlocked_since = None

    def watch(self, now: float, beats: Mapping[int, int]) -> bool:
        """Record the beats of all other workers. Return True to check again soon: one was silent for half a lease."""
        blind = self._lease / 3
        passed = min(now - self._watched_at, blind) if self._watched_at is not None else 0.0
        self._watched_at = now
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

    def judge(self, now: float, observations: Iterable[Observation]) -> dict[int, Death]:
        """Return the dead workers; call `watch` with the same observation first."""
        dead = {}
        for seen in observations:
            watch = self._watches[seen.id]
            if watch.silent >= self._lease:
                dead[seen.id] = Death.SILENT
            elif self._lost_its_lock(now, seen, watch):
                dead[seen.id] = Death.CRASHED
        return dead

    def _lost_its_lock(self, now: float, seen: Observation, watch: _Watch) -> bool:
        if not self._by_locks or not seen.locks or seen.locked or now < self._locks_count_from:
            watch.unlocked_since = None
            return False
        if watch.unlocked_since is None:
            watch.unlocked_since = now
        return now - watch.unlocked_since >= BETWEEN_CHECKS

    def next_check(self, now: float) -> float | None:
        """Return the seconds until a check that cannot wait for the next poll if a death is to be detected in time.

        None: no such check is needed.
        """
        waits = [
            BETWEEN_CHECKS - (now - w.unlocked_since) for w in self._watches.values() if w.unlocked_since is not None
        ]
        for watch in self._watches.values():
            if watch.silent >= self._lease / 2:
                waits.append(min(self._lease - watch.silent, self._lease / 4))
        return max(0.0, min(waits)) + 0.01 if waits else None
