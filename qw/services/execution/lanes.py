"""Which lanes to claim from, at what position, and how much of each. No I/O; the time is an argument.

The dead rows of a lane precede its live ones. While vacuum cannot remove them (a snapshot is held), a claim from the
start of the lane scans them all: 45 ms for 200,000. So each lane has a cursor, the highest seq claimed from it. Rows
can appear before it, because transactions do not commit in sequence order and a handed-back task keeps its seq;
therefore each lane is claimed from its start again after a pause of RESCAN_SHARE times the cost of that scan, busy or
idle, and always while the scan is cheap. If nothing is found past the cursor of a lane reported to hold tasks, they
are probably before it: then the pause is shorter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from qw.core.task import Claim, Lane
from qw.store.claims import Share

HEALTHY_SECONDS = 0.005  # a claim from the start that costs less than this needs no cursor
RESCAN_SHARE = 50  # rescans take at most 2 % of the time
BEHIND_SHARE = 10
MARKS = 10_000  # maximum number of lanes with a cursor
DEAREST_SECONDS = 0.2  # a claim that took longer waited for a lock or was frozen: not counted as scan cost
REVERSE_EVERY = 10  # batches between claims in reverse lane order, to prevent starvation
SECONDS_PER_ROW = 0.00004  # cost of claiming a row, subtracted to get the cost of the scan


@dataclass
class _Mark:
    cursor: int = -1
    scanned_at: float = -math.inf
    cost: float = 0.0
    is_behind: bool = False  # nothing was found past the cursor

    def start(self, now: float) -> int:
        return -1 if self.due_in(now) <= 0 else self.cursor

    def due_in(self, now: float) -> float:
        """Return the seconds until the next claim from the start of the lane."""
        if self.cost < HEALTHY_SECONDS:
            return 0.0
        cost = min(self.cost, DEAREST_SECONDS)
        pause = BEHIND_SHARE * cost if self.is_behind else max(1.0, RESCAN_SHARE * cost)
        return self.scanned_at + pause - now


class Lanes:
    """The lanes known to hold tasks, for the given queues (empty: all)."""

    def __init__(self, queues: Collection[str] = ()) -> None:
        self._queues = frozenset(queues)
        self._open: set[Lane] = set()
        self._heard: set[Lane] = set()  # lanes notified during a claim, which may have read too early
        self._marks: dict[Lane, _Mark] = {}
        self._batch = 0

    def add(self, lanes: Iterable[Lane]) -> bool:
        """Mark lanes as holding tasks until a claim finds them empty. Return whether one of them is served here."""
        served = {lane for lane in lanes if self._serves(lane)}
        self._open |= served
        self._heard |= served
        if len(self._marks) > MARKS:
            self._marks = {lane: mark for lane, mark in self._marks.items() if lane in self._open}
        return bool(served)

    def _serves(self, lane: Lane) -> bool:
        return not self._queues or lane.queue in self._queues

    @property
    def is_empty(self) -> bool:
        return not self._open

    def shares(self, room: int, now: float) -> list[Share]:
        """Return the shares to claim for *room* tasks: by priority; equal for queues of one priority, round-robin."""
        self._batch += 1
        self._heard.clear()
        shares: list[Share] = []
        for priority in sorted({lane.priority for lane in self._open}):
            lanes = sorted(lane for lane in self._open if lane.priority == priority)
            turn = self._batch % len(lanes)
            quota = math.ceil(room / len(lanes))
            shares += [Share(lane, self._mark(lane).start(now), quota) for lane in lanes[turn:] + lanes[:turn]]
        return shares[::-1] if self._batch % REVERSE_EVERY == 0 else shares

    def shares_of(self, lanes: Iterable[Lane], room: int, now: float) -> list[Share]:
        """Return shares for the *lanes* that are served here, each with all of *room*. Does not mark the lanes."""
        return [Share(lane, self._mark(lane).start(now), room) for lane in lanes if self._serves(lane)]

    def claimed(
        self,
        shares: Sequence[Share],
        claims: Sequence[Claim],
        *,
        room: int,
        cost: float,
        now: float,
        is_whole: bool = True,
    ) -> None:
        """Record a claim: the new cursors, the cost of the scan, and the lanes found empty.

        A claim that skipped tasks (*is_whole* False) does not show that a lane is empty.
        """
        if not is_whole:
            return
        taken: dict[Lane, list[int]] = {share.lane: [] for share in shares}
        if len(shares) == 1:
            taken[shares[0].lane] = [claim.seq for claim in claims]
        else:
            for claim in claims:
                taken[Lane(claim.queue, claim.priority)].append(claim.seq)
        walk = max(0.0, cost - SECONDS_PER_ROW * len(claims)) / max(1, len(shares))
        for share in shares:
            mark, seqs = self._mark(share.lane), taken[share.lane]
            if seqs:
                mark.cursor = max(mark.cursor, *seqs)
            if share.cursor < 0:
                mark.scanned_at, mark.cost, mark.is_behind = now, walk, False
            elif not seqs:
                mark.is_behind = True
        if len(claims) < room:
            dry = {share.lane for share in shares if len(taken[share.lane]) < share.quota}
            self._open -= {lane for lane in dry - self._heard if not self._mark(lane).is_behind}

    def due_in(self, now: float) -> float:
        """Return the seconds until a lane is claimed from its start for tasks before its cursor; infinite for none."""
        marks = (self._mark(lane) for lane in self._open)
        return min((mark.due_in(now) for mark in marks if mark.is_behind), default=math.inf)

    def _mark(self, lane: Lane) -> _Mark:
        return self._marks.setdefault(lane, _Mark())
