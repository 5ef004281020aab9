"""Decides which ticks of a schedule fire and which are skipped, and why; a pure function.

The mark is the last tick that was decided. It only rises, so no pause, clock step or second daemon can repeat an old
tick. Every due tick is decided exactly once, as a fire or as a skip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from qw.core.duration import format_duration
from qw.core.schedule.schedule import Misfire, Overlap, Schedule, due_at, ticks_of

LATE = timedelta(seconds=10)  # a tick processed within this time is on time
MOST = 1000  # ticks decided one by one; earlier missed ticks share one skip

_SECOND = timedelta(seconds=1)


class SkipReason(StrEnum):
    """Why a tick started nothing."""

    MISSED = "missed"
    OVERLAP = "overlap"
    PAUSED = "paused"
    CHANGED = "changed"  # the schedule was edited before the tick was processed
    REMOVED = "removed"
    REFUSED = "refused"  # its task or run cannot be stored


@dataclass(frozen=True, kw_only=True)
class Fire:
    """A tick that fires. ``id``: the id of the new task or run."""

    tick: datetime
    id: UUID


@dataclass(frozen=True, kw_only=True)
class SkippedTick:
    """``until``: the last of several ticks that this entry covers. ``blocker``: the task or run that was not final."""

    tick: datetime
    reason: SkipReason
    detail: str
    until: datetime | None = None
    blocker: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class ScheduleState:
    """The state of a schedule. ``busy``: the task or run of its last fire, if it is not final."""

    id: UUID
    schedule: Schedule
    created_at: datetime
    mark: datetime
    busy: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class FireDecision:
    """What to store. ``cancels``: earlier tasks or runs to cancel. ``next_tick`` None: there are no more ticks."""

    fires: tuple[Fire, ...] = ()
    skips: tuple[SkippedTick, ...] = ()
    cancels: tuple[UUID, ...] = ()
    mark: datetime
    next_tick: datetime | None
    next_at: datetime | None


def decide(state: ScheduleState, now: datetime, ids: Iterator[UUID]) -> FireDecision:
    """Decide all ticks due at *now*. *ids* yields ids for new tasks and runs. Raise Invalid like `timing`."""
    due = _due(state, now)
    late = [tick for tick in due.ticks if now - _at(state, tick) > LATE]
    fresh = [tick for tick in due.ticks if now - _at(state, tick) <= LATE]
    caught_up, missed = _catch_up(state, late, bool(fresh), now)
    fires, blocked, cancels = _overlap(state, sorted([*caught_up, *fresh]), ids)
    return FireDecision(
        fires=tuple(fires),
        skips=(*due.lost, *missed, *blocked),
        cancels=cancels,
        mark=due.mark,
        next_tick=due.next_tick,
        next_at=due.next_tick and _at(state, due.next_tick),
    )


def pass_over(state: ScheduleState, now: datetime, reason: SkipReason, detail: str) -> tuple[SkippedTick, ...]:
    """Return skips for all due ticks not decided yet, because the schedule is changed, resumed or removed at *now*."""
    due = _due(state, now)
    return (*due.lost, *(SkippedTick(tick=tick, reason=reason, detail=detail) for tick in due.ticks))


def first_tick(state: ScheduleState, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the first tick after *now*, and when it is due; None if there is none."""
    tick = next(ticks_of(state.schedule, state.created_at, max(state.mark, now)), None)
    return tick, tick and _at(state, tick)


@dataclass(frozen=True, kw_only=True)
class _Due:
    """Due ticks and the tick after them. ``lost``: one entry for all earlier ticks, if there are too many."""

    ticks: Sequence[datetime]
    next_tick: datetime | None
    mark: datetime
    lost: tuple[SkippedTick, ...] = ()


def _due(state: ScheduleState, now: datetime) -> _Due:
    """Return the latest due ticks, at most MOST; while there are more, the search interval is halved."""
    due = _due_since(state, state.mark, now)
    if len(due.ticks) <= MOST:
        return due
    first, since = due.ticks[0], state.mark
    while len(due.ticks) > MOST:
        since += (now - since) / 2
        due = _due_since(state, since, now)
    detail = f"{format_duration(_whole(now - first))} late, as were more than {MOST:,} ticks"
    return replace(due, lost=(SkippedTick(tick=first, reason=SkipReason.MISSED, detail=detail, until=since),))


def _due_since(state: ScheduleState, since: datetime, now: datetime) -> _Due:
    due: list[datetime] = []
    next_tick = None
    for tick in ticks_of(state.schedule, state.created_at, since):
        if len(due) > MOST or _at(state, tick) > now:
            next_tick = tick
            break
        due.append(tick)
    return _Due(ticks=due, next_tick=next_tick, mark=due[-1] if due else since)


def _at(state: ScheduleState, tick: datetime) -> datetime:
    return due_at(state.id, tick, state.schedule.jitter)


def _catch_up(
    state: ScheduleState, late: Sequence[datetime], more_are_on_time: bool, now: datetime
) -> tuple[Sequence[datetime], list[SkippedTick]]:
    """Return which *late* ticks fire after all, according to ``misfire`` and ``window``, and which are skipped."""
    schedule, window = state.schedule, state.schedule.window
    in_window = [tick for tick in late if window is None or now - _at(state, tick) <= window]
    too_old = [tick for tick in late if window is not None and now - _at(state, tick) > window]
    match schedule.misfire:
        case Misfire.SKIP:
            chosen, why = [], "misfire is skip"
        case Misfire.ONCE:
            chosen, why = [] if more_are_on_time else in_window[-1:], "covered by a later tick"
        case Misfire.ALL:
            chosen, why = in_window[-schedule.cap :], f"more than the cap of {schedule.cap}"
    left_out = in_window[: len(in_window) - len(chosen)]
    old = f"the window is {format_duration(window)}" if window is not None else ""
    skips = [(tick, old) for tick in too_old] + [(tick, why) for tick in left_out]
    return chosen, [
        SkippedTick(
            tick=tick, reason=SkipReason.MISSED, detail=f"{format_duration(_whole(now - _at(state, tick)))} late; {why}"
        )
        for tick, why in skips
    ]


def _overlap(
    state: ScheduleState, chosen: Sequence[datetime], ids: Iterator[UUID]
) -> tuple[list[Fire], list[SkippedTick], tuple[UUID, ...]]:
    """Return which of the chosen ticks fire, are skipped or cancel others, if an earlier task or run is not final."""
    policy, busy = state.schedule.overlap, state.busy
    if policy is Overlap.ALLOW or not chosen:
        return [Fire(tick=tick, id=next(ids)) for tick in chosen], [], ()
    if policy is Overlap.CANCEL:
        fire = Fire(tick=chosen[-1], id=next(ids))
        detail = "replaced by a later tick before it started"
        return [fire], [_blocked(tick, fire.id, detail) for tick in chosen[:-1]], (busy,) if busy else ()
    fires = [] if busy else [Fire(tick=chosen[0], id=next(ids))]
    blocker = busy or fires[0].id
    return fires, [_blocked(tick, blocker, f"{blocker} was not final") for tick in chosen[len(fires) :]], ()


def _blocked(tick: datetime, blocker: UUID, detail: str) -> SkippedTick:
    return SkippedTick(tick=tick, reason=SkipReason.OVERLAP, detail=detail, blocker=blocker)


def _whole(duration: timedelta) -> timedelta:
    return duration // _SECOND * _SECOND
