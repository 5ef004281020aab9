"""`Client.schedules`: list, add, pause, resume, trigger, backfill, remove.

async with Client(url) as client:
    nightly = parse_schedule("nightly", {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "type": "noop"})
    await client.schedules.add(nightly)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Literal, NoReturn
from uuid import UUID

from qw.client.acting import audited
from qw.client.connections import Namespace, check_limit
from qw.core.duration import format_duration
from qw.core.errors import Conflict, Fault, Invalid, NotFound, among, guess
from qw.core.schedule import BACKFILL_REACH, Schedule, WorkflowTarget, ticks_of, timing
from qw.core.schedule.fire_decision import LATE, Fire, ScheduleState, SkipReason, first_tick, pass_over
from qw.core.schedule.timing import Tick, shown
from qw.store import applied, fires, schedules, types
from qw.store.connection import Connection
from qw.store.fires import LAST_TICK, Making, StoredFire
from qw.store.ids import new_id
from qw.store.schedules import Ref, StoredSchedule

MAX_BACKFILL = 1000  # maximum ticks per call
MOST = 1000  # maximum schedules or ticks in one answer
_MICROSECOND = timedelta(microseconds=1)

Change = Literal["added", "changed", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class Backfilled:
    """``made``: the past ticks fired, or to be fired in a dry run. ``known``: number of ticks that fired before."""

    made: list[Fire]
    known: int


class Schedules(Namespace):
    """Methods take a schedule's name or id, and raise NotFound if it does not exist. *clock* is for tests."""

    # -- read

    async def get(self, ref: Ref) -> StoredSchedule:
        async with self._db.connection() as conn:
            return await schedules.get(conn, ref) or await _missing(conn, ref)

    async def page(self, *, after: str = "", limit: int = 1000) -> list[StoredSchedule]:
        """Return schedules in name order, at most 1,000. For the next page pass the last name as *after*."""
        check_limit(limit, MOST)
        async with self._db.connection() as conn:
            return await schedules.page(conn, after=after, limit=limit)

    async def fires(self, ref: Ref, *, before: datetime = LAST_TICK, limit: int = 100) -> list[StoredFire]:
        """Return outcomes of the ticks earlier than *before*, latest first, at most 1,000."""
        check_limit(limit, MOST)
        async with self._db.connection() as conn:
            stored = await schedules.get(conn, ref) or await _missing(conn, ref)
            return await fires.of_schedule(conn, stored.id, before=before, limit=limit)

    async def next(self, ref: Ref, *, count: int = 10) -> list[Tick]:
        """Return the next *count* ticks (at most 1,000), computed as if the schedule were not paused."""
        check_limit(count, MOST)
        stored = await self.get(ref)
        return upcoming(stored.schedule, stored.created_at, max(stored.mark, stored.read_at), count)

    async def late(self, *, by: timedelta = LATE, limit: int = 100) -> list[tuple[str, timedelta]]:
        """Return schedules overdue by more than *by*, with the delay, longest first: no daemon fires them."""
        async with self._db.connection() as conn:
            return await schedules.late(conn, by=by, limit=limit)

    # -- change

    @audited("schedule add")
    async def add(
        self, schedule: Schedule, *, id: UUID | None = None, replace: bool = False, clock: datetime | None = None
    ) -> tuple[UUID, Change]:
        """Store a schedule; its first tick is after now. Return its id and the change. Idempotent by *id*.

        Raise Conflict if the name is taken, unless *replace*: then update that schedule. A paused schedule stays
        paused, and ticks due before now are not fired. Also idempotent with *replace*.
        Raise Invalid for an unknown type, or input its workflow does not accept.
        """
        async with self._db.operating() as conn, conn.transaction():
            known = await schedules.lock(conn, schedule.name, clock=clock)
            if known is None:
                new = id or new_id()
                if await _add(conn, schedule, new, clock):
                    return new, "added"
                known = await _added_meanwhile(conn, schedule.name, new, clock)
            if known.id == id and _is_same(known, schedule):
                return known.id, "unchanged"
            if known.id == id and not replace:
                raise Conflict(f"schedule {schedule.name} already exists with a different definition")
            if not replace:
                raise Conflict(f"schedule {schedule.name} already exists; use --replace or choose another name")
            return known.id, await _change(conn, known, schedule)

    @audited("schedule pause")
    async def pause(self, *refs: Ref) -> None:
        """Pause all given schedules, or none if one is missing. No tick fires until they are resumed. Idempotent."""
        async with self._db.operating() as conn, conn.transaction():
            for stored in await _all_locked(conn, refs):
                await schedules.pause(conn, stored.id)

    @audited("schedule resume")
    async def resume(self, *refs: Ref, clock: datetime | None = None) -> None:
        """Resume with the first tick after now; ticks missed meanwhile are recorded as skipped.

        Resume all given schedules, or none if one is missing. Idempotent.
        """
        async with self._db.operating() as conn, conn.transaction():
            for stored in await _all_locked(conn, refs, clock):
                await _resume(conn, stored)

    @audited("schedule trigger")
    async def trigger(self, ref: Ref, *, id: UUID | None = None) -> UUID:
        """Fire a schedule now, regardless of times, pause and overlap. Return the id of the new task or run.

        Idempotent by *id*. Raise the error that prevents its run from starting, if any.
        """
        async with self._db.operating() as conn, conn.transaction():
            stored = await _locked(conn, ref)
            if id is not None and await fires.has_made(conn, stored.id, id):
                return id
            from qw.engine.fire import make  # imports the engine of workflows

            making = Making(stored=stored, fire=Fire(tick=stored.read_at, id=id or new_id()))
            await fires.record(conn, [making], [], "trigger")
            await make(conn, [making])
            await schedules.fired(conn, stored.id, making.fire.id)
        return making.fire.id

    @audited("schedule backfill")
    async def backfill(
        self, ref: Ref, since: datetime, until: datetime, *, dry_run: bool = False, clock: datetime | None = None
    ) -> Backfilled:
        """Fire the past ticks from *since* to *until* that were skipped or are from before the schedule existed.

        At most 1,000 ticks per call, none older than 31 days, none after now; overlap is ignored. Idempotent.
        """
        async with self._db.operating() as conn, conn.transaction():
            stored = await _locked(conn, ref, clock)
            ticks = _past_ticks(stored, since, until)
            known = await fires.fired_among(conn, stored.id, ticks)
            from qw.engine.fire import make

            made = [Making(stored=stored, fire=Fire(tick=tick, id=new_id())) for tick in ticks if tick not in known]
            if not dry_run:
                await fires.record_backfill(conn, made)
                await make(conn, made)
        return Backfilled(made=[making.fire for making in made], known=len(known))

    @audited("schedule remove")
    async def remove(self, *refs: Ref, clock: datetime | None = None) -> None:
        """Delete all given schedules, or none if one is missing.

        Their tasks and runs continue; the outcomes of their ticks are kept for the retention time.
        """
        async with self._db.operating() as conn, conn.transaction():
            for stored in await _all_locked(conn, refs, clock):
                await drop(conn, stored)


def upcoming(schedule: Schedule, created_at: datetime, after: datetime, count: int) -> list[Tick]:
    """Return the next *count* ticks after the time *after*."""
    when = timing(schedule, created_at)
    return [shown(when, tick) for tick in islice(ticks_of(schedule, created_at, after), count)]


async def _locked(conn: Connection, ref: Ref, clock: datetime | None = None) -> StoredSchedule:
    return await schedules.lock(conn, ref, clock=clock) or await _missing(conn, ref)


async def _all_locked(conn: Connection, refs: Sequence[Ref], clock: datetime | None = None) -> list[StoredSchedule]:
    """Lock each schedule once, in name order, to avoid deadlocks. Raise NotFound naming all that are missing."""
    locked: dict[UUID, StoredSchedule] = {}
    missing: list[Ref] = []
    for ref in sorted(dict.fromkeys(refs), key=str):
        if stored := await schedules.lock(conn, ref, clock=clock):
            locked[stored.id] = stored
        else:
            missing.append(ref)
    if missing:
        await _missing(conn, *missing, nothing_done=len(refs) > 1)
    return list(locked.values())


async def _missing(conn: Connection, *refs: Ref, nothing_done: bool = False) -> NoReturn:
    known = await schedules.names(conn)
    hint = {ref: guess(ref, known) if isinstance(ref, str) else "" for ref in refs}
    said = [f"there is no schedule {str(ref)!r}{hint[ref]}" for ref in refs]
    if not any(hint.values()):
        said.append(f"known are {', '.join(known[:10]) or 'none'}{' …' if len(known) > 10 else ''}")
    raise NotFound("; ".join([*said, "nothing was changed"] if nothing_done else said))


async def _resume(conn: Connection, stored: StoredSchedule) -> None:
    if stored.paused_at is not None:
        await _pass_over(conn, stored, SkipReason.PAUSED, f"paused since {stored.paused_at:%Y-%m-%d %H:%M:%SZ}")
    if stored.paused_at is not None or stored.broken is not None:
        await _store(conn, stored, replace(stored.schedule, paused=False))


async def drop(conn: Connection, stored: StoredSchedule) -> None:
    """Delete a locked schedule, in the caller's transaction."""
    await _pass_over(conn, stored, SkipReason.REMOVED, "the schedule was removed")
    await schedules.remove(conn, stored.id)
    await applied.disown(conn, "schedule", stored.name)


async def put(conn: Connection, schedule: Schedule) -> Change:
    """Add a schedule, or update the one with its name, in the caller's transaction."""
    known = await schedules.lock(conn, schedule.name)
    if known is None:
        id = new_id()
        if await _add(conn, schedule, id, None):
            return "added"
        known = await _added_meanwhile(conn, schedule.name, id, None)
    return await _change(conn, known, schedule)


async def _add(conn: Connection, schedule: Schedule, id: UUID, clock: datetime | None) -> bool:
    """Return False if another transaction added this name or id concurrently."""
    await _check_target(conn, schedule)
    now = await schedules.now(conn, clock=clock)
    next = _first(schedule, id, created_at=now, mark=now, now=now)
    _check_fires(schedule, next[0])
    return await schedules.add(conn, id, schedule, now=now, next=(None, None) if schedule.paused else next)


def _check_fires(schedule: Schedule, first: datetime | None) -> None:
    if first is None:
        raise Invalid(Fault(path="at" if schedule.at else "end", message="it never fires: its last time has passed"))


async def _added_meanwhile(conn: Connection, name: str, id: UUID, clock: datetime | None) -> StoredSchedule:
    if stored := await schedules.lock(conn, name, clock=clock):
        return stored
    raise Conflict(f"{id} is not the id of schedule {name}")


def _is_same(known: StoredSchedule, schedule: Schedule) -> bool:
    """Whether both have the same definition, ignoring ``paused``."""
    return replace(known.schedule, paused=False) == replace(schedule, paused=False)


async def _change(conn: Connection, known: StoredSchedule, schedule: Schedule) -> Change:
    if _is_same(known, schedule) and known.broken is None:
        if schedule.paused and known.paused_at is None:
            await schedules.pause(conn, known.id)
            return "changed"
        return "unchanged"
    await _check_target(conn, schedule)
    now = known.read_at
    _check_fires(schedule, _first(schedule, known.id, created_at=known.created_at, mark=known.mark, now=now)[0])
    await _pass_over(conn, known, SkipReason.CHANGED, "the schedule was changed before it was served")
    await _store(conn, known, replace(schedule, paused=schedule.paused or known.paused_at is not None))
    return "changed"


async def _check_target(conn: Connection, schedule: Schedule) -> None:
    """Raise Invalid for a target that cannot be created: an unknown type or workflow, or input it does not accept."""
    if isinstance(schedule.target, WorkflowTarget):
        from qw.engine.start import checked_input

        await checked_input(conn, schedule.target.workflow, schedule.target.input)
        return
    known = await types.names(conn)
    if schedule.target.type not in known:
        message = f"unknown task type {schedule.target.type!r}{among(schedule.target.type, known)}"
        raise Invalid(Fault(path="type", message=message))


async def _pass_over(conn: Connection, stored: StoredSchedule, reason: SkipReason, detail: str) -> None:
    """Record the due ticks as skipped; none if the ticks of the schedule cannot be computed."""
    if stored.broken is not None:
        return
    try:
        skips = pass_over(stored.state(), stored.read_at, reason, detail)
    except Invalid:
        return
    await fires.record(conn, [], [(stored.id, skip) for skip in skips])


async def _store(conn: Connection, stored: StoredSchedule, schedule: Schedule) -> None:
    """Store a locked schedule's new definition with its first tick after now."""
    now = stored.read_at
    next = _first(schedule, stored.id, created_at=stored.created_at, mark=stored.mark, now=now)
    await schedules.change(conn, stored.id, schedule, now=now, next=(None, None) if schedule.paused else next)


def _first(
    schedule: Schedule, id: UUID, *, created_at: datetime, mark: datetime, now: datetime
) -> tuple[datetime | None, datetime | None]:
    return first_tick(ScheduleState(id=id, schedule=schedule, created_at=created_at, mark=mark), now)


def _past_ticks(stored: StoredSchedule, since: datetime, until: datetime) -> list[datetime]:
    now = stored.read_at
    if since < now - BACKFILL_REACH:
        message = f"is more than {format_duration(BACKFILL_REACH)} ago; older fire records may have been pruned"
        raise Invalid(Fault(path="since", message=message))
    if until < since:
        raise Invalid(Fault(path="until", message="comes before since"))
    last = min(until, now, stored.mark) if stored.next_at is not None else min(until, now)
    past = ticks_of(stored.schedule, stored.created_at, since - _MICROSECOND)
    ticks = list(islice(takewhile(lambda tick: tick <= last, past), MAX_BACKFILL + 1))
    if len(ticks) > MAX_BACKFILL:
        message = f"more than {MAX_BACKFILL:,} ticks; the first {MAX_BACKFILL:,} end at {ticks[-2].isoformat()}"
        raise Invalid(Fault(path="until", message=message))
    return ticks
