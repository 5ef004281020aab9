"""Crontab import: makes the schedules of an owner equal to a crontab, in one transaction.

An import has an owner, like a set of definition files. Schedules that the owner imported before are updated, reported
or removed; schedules of other owners are not changed unless *replace* is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qw.client.acting import counted
from qw.client.connections import Connections
from qw.client.schedules import drop, put
from qw.core.errors import Conflict, Fault, Invalid
from qw.core.schedule import Schedule
from qw.core.schedule.crontab import CronJob, named
from qw.core.task.payload import Json
from qw.store import applied, schedules
from qw.store.applied import How, Owned
from qw.store.connection import Connection

_KIND = "schedule"


@dataclass(frozen=True, kw_only=True)
class ImportedSchedule:
    """The outcome for one schedule. ``left``: its job is no longer in the crontab, and *prune* was not given."""

    schedule: Schedule
    how: How


async def import_crontab(
    db: Connections,
    jobs: Sequence[CronJob],
    *,
    owner: str,
    by: str,
    prefix: str = "",
    prune: bool = False,
    replace: bool = False,
) -> list[ImportedSchedule]:
    """Make the schedules of *owner* equal to *jobs*, in one transaction. Idempotent.

    *prune* removes schedules whose job is no longer in the crontab. Raise Conflict for names that other owners have
    (unless *replace*), and Invalid for jobs that cannot be schedules; in both cases nothing is changed.
    """
    async with db.operating() as conn, conn.transaction():
        await applied.lock(conn)
        ours = await _owned(conn, owner)
        wanted = named(jobs, prefix=prefix, known=ours, reuse=prune)
        names = {schedule.name for schedule in wanted}
        gone = [schedule for schedule in ours if schedule.name not in names]
        if not replace:
            await _check_free(conn, names - {schedule.name for schedule in ours}, owner)
        hows = {schedule.name: await _put(conn, schedule) for schedule in sorted(wanted, key=lambda new: new.name)}
        if prune:
            await _remove(conn, gone)
        documents = {schedule.name: job.document for schedule, job in zip(wanted, jobs, strict=True)}
        await applied.own(conn, [Owned(_KIND, name, owner, document) for name, document in documents.items()])
        made = [ImportedSchedule(schedule=schedule, how=hows[schedule.name]) for schedule in wanted]
        made += [ImportedSchedule(schedule=schedule, how=How.REMOVED if prune else How.LEFT) for schedule in gone]
        changed = [change for change in made if change.how not in (How.UNCHANGED, How.LEFT)]
        if changed:
            said: Json = [{"kind": _KIND, "name": change.schedule.name, "how": change.how.value} for change in made]
            await applied.record(conn, owner=owner, by=by, changes=said)
        counted(len(changed))
    return made


async def _owned(conn: Connection, owner: str) -> list[Schedule]:
    """Return the existing schedules that this owner imported before, in name order."""
    names = [
        definition.name
        for definition in await applied.owned(conn)
        if definition.kind == _KIND and definition.owner == owner
    ]
    known = [await schedules.get(conn, name) for name in names]
    return [stored.schedule for stored in known if stored is not None]


async def _check_free(conn: Connection, names: set[str], owner: str) -> None:
    taken = [name for name in sorted(names) if await schedules.get(conn, name)]
    if taken:
        raise Conflict(
            f"schedule {', '.join(taken)} already exists and was not created by this import ({owner}). "
            "Nothing was changed: replace it with --replace, or choose other names with --prefix"
        )


async def _put(conn: Connection, schedule: Schedule) -> How:
    try:
        return How(await put(conn, schedule))
    except Invalid as error:
        raise Invalid(*(Fault(path=schedule.name, message=str(fault)) for fault in error.faults)) from None


async def _remove(conn: Connection, gone: Sequence[Schedule]) -> None:
    for schedule in gone:
        if stored := await schedules.lock(conn, schedule.name):
            await drop(conn, stored)
