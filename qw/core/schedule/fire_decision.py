"""Decides which ticks of a schedule fire and which are skipped, and why; a pure function.

The mark is the last tick that was decided. It only rises, so that no pause, clock step or second daemon can bring an
old tick back. Every due tick comes out exactly once, as a fire or as a skip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from qw.core.duration import format_duration
from qw.core.schedule.schedule import Misfire, Overlap, Schedule, due_at, ticks_of

LATE = timedelta(seconds=10)  # a tick that is served within it was on time
MOST = 1000  # ticks decided one by one; what was missed before them shares one skip

_SECOND = timedelta(seconds=1)


class SkipReason(StrEnum):
    """Why a tick made no task."""

    MISSED = "missed"
    OVERLAP = "overlap"
    PAUSED = "paused"
    CHANGED = "changed"  # the schedule was edited before the tick was served
    REMOVED = "removed"
    REFUSED = "refused"  # what it starts cannot be stored


@dataclass(frozen=True, kw_only=True)
class Fire:
    """``id`` is that of the task or run to make."""

    tick: datetime
    id: UUID


@dataclass(frozen=True, kw_only=True)
class SkippedTick:
    """``until``: it stands for every tick up to that. ``blocker``: the task or run that was not final."""

    tick: datetime
    reason: SkipReason
    detail: str
    until: datetime | None = None
    blocker: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class ScheduleState:
    """Where a schedule stands. ``busy``: the task or run of its last fire, if that is not final."""

    id: UUID
    schedule: Schedule
    created_at: datetime
    mark: datetime
    busy: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class FireDecision:
    """What to store. ``cancels`` are earlier tasks or runs to cancel; ``next_tick`` None: it is over."""

    fires: tuple[Fire, ...] = ()
    skips: tuple[SkippedTick, ...] = ()
    cancels: tuple[UUID, ...] = ()
    mark: datetime
    next_tick: datetime | None
    next_at: datetime | None


def decide(state: ScheduleState, now: datetime, ids: Iterator[UUID]) -> FireDecision:
    """What is to happen at *now*. *ids* gives new ids for what is made. Raise Invalid as `timing` does."""
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
    """Skips for all that is due but was not decided: the schedule is changed, resumed or removed at *now*."""
    due = _due(state, now)
    return (*due.lost, *(SkippedTick(tick=tick, reason=reason, detail=detail) for tick in due.ticks))


def first_tick(state: ScheduleState, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The first tick after *now*, and when it is to be acted on. None: there is none."""
    tick = next(ticks_of(state.schedule, state.created_at, max(state.mark, now)), None)
    return tick, tick and _at(state, tick)


@dataclass(frozen=True, kw_only=True)
class _Due:
    """Due ticks and the one after them; ``lost``: a summary of earlier ones, if there are too many."""

    ticks: Sequence[datetime]
    next_tick: datetime | None
    mark: datetime
    lost: tuple[SkippedTick, ...] = ()


def _due(state: ScheduleState, now: datetime) -> _Due:
    """What is due: the latest MOST ticks at most, found by halving the time that they are looked for in."""
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
    """Which of the *late* ticks fire after all, by ``misfire`` and ``window``."""
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
    """Which of the chosen ticks fire, given that an earlier task or run may not be final."""
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
