"""Fires due schedules: creates their tasks and runs in the transaction that records the ticks.

Locks, decisions, ticks, tasks and the next due times are committed together. After a crash at any point, the next pass
handles the tick, and nothing is created twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from qw.core.errors import Invalid, QwError
from qw.core.schedule import Overlap, TaskTarget, WorkflowTarget
from qw.core.schedule.fire_decision import FireDecision, decide
from qw.core.task import FILED_UNDER, Lane, NewTask
from qw.core.task.payload import clean_error
from qw.engine.start import start_run
from qw.store import fires, runs, schedules, tasks
from qw.store.connection import Connection, blames_data, translated
from qw.store.fires import Making
from qw.store.ids import new_id
from qw.store.schedules import ScheduleProgress, StoredSchedule

log = logging.getLogger(__name__)

DECIDING_SECONDS = 0.25  # blocks the event loop for this long; after a long outage, one schedule may take all of it


async def fire_due(
    conn: Connection, *, limit: int, clock: datetime | None = None, skip_refused: bool = False
) -> tuple[int, set[Lane]]:
    """Process up to *limit* due schedules. Return their number and the lanes that got tasks.

    Raise errors of the database; with *skip_refused*, skip the ticks of the batch instead, with the error as reason.
    """
    async with conn.transaction():
        claimed = await schedules.claim(conn, limit=limit, clock=clock)
        if not claimed:
            return 0, set()
        busy = await _busy(conn, claimed)
        decisions = list(_decisions(claimed, busy))
        made = [Making(stored=s, fire=fire) for s, d in decisions if isinstance(d, FireDecision) for fire in d.fires]
        skipped = [(s.id, skip) for s, d in decisions if isinstance(d, FireDecision) for skip in d.skips]
        new = await fires.record(conn, made, skipped)
        made = [making for making in made if (making.stored.id, making.fire.tick) in new]
        await _cancel(conn, decisions)
        lanes = await (_make_or_refuse if skip_refused else make)(conn, [m for m in made if m.stored.starts_task])
        for making in made:
            if not making.stored.starts_task:
                await _make_or_refuse(conn, [making])
        await schedules.decide(conn, [_decided(stored, decision) for stored, decision in decisions])
    return len(claimed), lanes


async def _busy(conn: Connection, claimed: Sequence[StoredSchedule]) -> set[UUID]:
    """Return the unfinished tasks and runs of earlier ticks, for schedules whose overlap policy depends on them."""
    asked = [s.last_id for s in claimed if s.last_id and s.schedule.overlap is not Overlap.ALLOW]
    return await schedules.busy(conn, asked) if asked else set()


def _decisions(
    claimed: Sequence[StoredSchedule], busy: set[UUID]
) -> Iterator[tuple[StoredSchedule, FireDecision | str]]:
    """Decide the ticks of each schedule. Schedules not reached within DECIDING_SECONDS stay due."""
    ends_at = time.monotonic() + DECIDING_SECONDS
    for stored in claimed:
        yield stored, _decision(stored, busy)
        if time.monotonic() > ends_at:
            return


def _decision(stored: StoredSchedule, busy: set[UUID]) -> FireDecision | str:
    """Decide the ticks of one schedule. Return errors as text, so that they do not block other schedules."""
    try:
        last = stored.last_id if stored.last_id in busy else None
        return decide(stored.state(last), stored.read_at, iter(new_id, None))
    except Invalid as error:
        return str(error)
    except Exception as error:
        log.exception("schedule cannot be worked out", extra={"schedule": stored.name})
        return f"{type(error).__name__}: {error}"


def _decided(stored: StoredSchedule, decision: FireDecision | str) -> ScheduleProgress:
    if isinstance(decision, FireDecision):
        return schedules.decided(stored, decision)
    log.warning("schedule is broken", extra={"schedule": stored.name, "error": decision})
    return ScheduleProgress(id=stored.id, mark=stored.mark, next_tick=None, next_at=None, broken=clean_error(decision))


async def _cancel(conn: Connection, decisions: Sequence[tuple[StoredSchedule, FireDecision | str]]) -> None:
    """Cancel tasks and runs that new ticks replace."""
    overtaken: list[UUID] = []
    for stored, decision in decisions:
        if isinstance(decision, FireDecision):
            for id in decision.cancels:
                if stored.starts_task:
                    overtaken.append(id)
                else:
                    await runs.cancel(conn, id)
    if overtaken:
        await tasks.cancel(conn, overtaken, running=True, reason="the next tick of its schedule came")


async def _make_or_refuse(conn: Connection, made: Sequence[Making]) -> set[Lane]:
    """Create everything in *made*; if the values are rejected, create nothing and record the ticks as skipped."""
    try:
        with translated():
            async with conn.transaction():
                return await make(conn, made)
    except QwError as error:
        if not blames_data(error):
            raise
        for making in made:
            await fires.refuse(conn, making, clean_error(str(error)))
        return set()


async def make(conn: Connection, made: Sequence[Making]) -> set[Lane]:
    """Enqueue the tasks and start the runs of recorded fires. Return the lanes of the tasks, not those of the runs."""
    new = [_task(making, target) for making in made if isinstance(target := making.stored.schedule.target, TaskTarget)]
    if new:
        await tasks.enqueue(conn, new)
    for making in made:
        if isinstance(target := making.stored.schedule.target, WorkflowTarget):
            under = making.stored.schedule.filed_under
            await start_run(conn, making.fire.id, target.workflow, target.input, filed_under=under)
    return {Lane(task.queue, task.priority) for task in new}


def _task(making: Making, target: TaskTarget) -> NewTask:
    return target.task(making.fire.id, _headers(making))


def _headers(making: Making) -> dict[str, str]:
    under = making.stored.schedule.filed_under
    headers = {"schedule": making.stored.name, "tick": making.fire.tick.isoformat()}
    return {**headers, FILED_UNDER: str(under)} if under else headers
