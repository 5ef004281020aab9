"""Schedules: add, list, pause, resume, trigger, backfill, remove."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from qw.client.schedules import upcoming
from qw.clock import clock
from qw.core.errors import Invalid
from qw.core.schedule import Misfire, Overlap, Schedule, TaskTarget
from qw.core.schedule.describe import describe
from qw.core.schedule.document import parse_schedule
from qw.core.schedule.timing import Tick
from qw.store.fires import LAST_TICK, StoredFire
from qw.store.schedules import StoredSchedule
from qw.web.enqueueing import id_of_key
from qw.web.errors import Problem
from qw.web.fields import Form, Id, Limit, Moment, QueryMoment, Stamp, Switch, Text, Whole
from qw.web.route import Request, delete, get, post
from qw.web.routes.tasks import MessageAnswer
from qw.web.serializers import stamp, stamp_or_none
from qw.web.shown import Shown

_DOCUMENT = {"payload": "with", "input": "with"}  # fields whose names differ in definition files


class ScheduleForm(Form):
    """Time: one of ``cron``, ``every``, ``at``. Target: ``type`` and ``payload``, or ``workflow`` and ``input``."""

    name: Text
    cron: str | None = None
    every: str | None = None
    at: str | None = None
    timezone: str | None = None
    seconds: Switch | None = None
    type: str | None = None
    payload: dict[str, Any] | None = None
    workflow: str | None = None
    input: dict[str, Any] | None = None
    queue: str | None = None
    priority: Whole | None = None
    max_retries: Whole | None = None
    timeout: str | None = None
    misfire: Misfire | None = None
    window: str | None = None
    cap: Whole | None = None
    overlap: Overlap | None = None
    jitter: str | None = None
    start: str | None = None
    end: str | None = None
    paused: Switch | None = None
    description: str | None = None
    replace: Switch = False


class PageQuery(Form):
    """``next`` and ``fires``: how many next ticks and last fires to add to each schedule."""

    limit: Limit = 100
    after: str = ""
    next: Annotated[int, Field(ge=0, le=20)] = 0
    fires: Annotated[int, Field(ge=0, le=100)] = 0


class NextQuery(Form):
    count: Limit = 10


class FiresQuery(Form):
    limit: Limit = 100
    before: QueryMoment = None


class BackfillForm(Form):
    since: Moment = None
    until: Moment = None
    dry_run: Switch = False


class ScheduleEntity(TypedDict):
    id: Id
    name: str
    when: str
    cron: str | None
    seconds: bool
    everySeconds: float | None
    at: Stamp | None
    timezone: str
    type: str | None
    payload: dict[str, Any] | None
    workflow: str | None
    input: dict[str, Any] | None
    misfire: Misfire
    windowSeconds: float | None
    cap: int
    overlap: Overlap
    jitterSeconds: float
    start: Stamp | None
    end: Stamp | None
    description: str
    paused: bool
    broken: str | None
    nextTick: Stamp | None
    lastId: Id | None
    createdAt: Stamp
    updatedAt: Stamp
    nextTicks: NotRequired[list[TickEntity]]
    lastFires: NotRequired[list[FireEntity]]


class SchedulePage(TypedDict):
    schedules: list[ScheduleEntity]
    nextCursor: str | None


class TickEntity(TypedDict):
    utc: Stamp
    local: str
    zone: str | None
    dst: bool
    note: str


class Ticks(TypedDict):
    ticks: list[TickEntity]


class FireEntity(TypedDict):
    tick: Stamp
    cause: str
    reason: str | None
    detail: str | None
    until: Stamp | None
    blocker: Id | None
    taskId: Id | None
    runId: Id | None
    decidedAt: Stamp


class Fires(TypedDict):
    fires: list[FireEntity]


class Triggered(TypedDict):
    message: str
    id: Id


class Filled(TypedDict):
    ticks: list[Stamp]
    known: int
    dryRun: bool


async def create(call: Request[ScheduleForm, None]) -> ScheduleEntity:
    """Add a schedule; its first tick is after now. With ``replace`` an existing one of that name is updated."""
    values = call.body.model_dump(exclude={"name", "replace"}, exclude_none=True)
    if {"payload", "input"} <= values.keys():
        raise Problem(400, "Give either payload or input")
    schedule = parse_schedule(call.body.name, {_DOCUMENT.get(key, key): value for key, value in values.items()})
    if isinstance(schedule.target, TaskTarget) and schedule.target.is_program:
        raise Problem(400, "Over HTTP, only declared commands can be run: argv, run and shell are not accepted")
    id, _ = await call.client.schedules.add(schedule, id=id_of_key(call), replace=call.body.replace)
    return _entity(await call.client.schedules.get(id), call.shown)


async def find(call: Request[None, PageQuery]) -> SchedulePage:
    """List schedules in name order, starting after the name ``after``."""
    page = await call.client.schedules.page(after=call.query.after, limit=call.query.limit)
    return {
        "schedules": [await _with_ticks(call, stored) for stored in page],
        "nextCursor": page[-1].name if len(page) == call.query.limit else None,
    }


async def _with_ticks(call: Request[None, PageQuery], stored: StoredSchedule) -> ScheduleEntity:
    entity, query = _entity(stored, call.shown), call.query
    if query.next:
        since = max(stored.mark, stored.read_at)
        ticks = [] if stored.broken else upcoming(stored.schedule, stored.created_at, since, query.next)
        entity["nextTicks"] = [_tick(tick) for tick in ticks]
    if query.fires:
        last = await call.client.schedules.fires(stored.id, limit=query.fires)
        entity["lastFires"] = [_fire(fire) for fire in last]
    return entity


async def show(call: Request[None, None]) -> ScheduleEntity:
    """Get a schedule by name."""
    return _entity(await call.client.schedules.get(call.path["name"]), call.shown)


async def next_ticks(call: Request[None, NextQuery]) -> Ticks:
    """List the next ticks of a schedule, in UTC and in its time zone."""
    ticks = await call.client.schedules.next(call.path["name"], count=call.query.count)
    return {"ticks": [_tick(tick) for tick in ticks]}


async def fires(call: Request[None, FiresQuery]) -> Fires:
    """List past ticks, latest first: the task or run that was created, or the reason why none was."""
    before = call.query.before or LAST_TICK
    page = await call.client.schedules.fires(call.path["name"], before=before, limit=call.query.limit)
    return {"fires": [_fire(fire) for fire in page]}


async def pause(call: Request[None, None]) -> MessageAnswer:
    """Pause a schedule: no tick fires until it is resumed."""
    await call.client.schedules.pause(call.path["name"])
    return {"message": f"Schedule {call.path['name']} paused"}


async def resume(call: Request[None, None]) -> MessageAnswer:
    """Resume a schedule with its next tick; ticks missed while paused are skipped."""
    await call.client.schedules.resume(call.path["name"])
    return {"message": f"Schedule {call.path['name']} resumed"}


async def trigger(call: Request[None, None]) -> Triggered:
    """Fire a schedule now, regardless of its times. ``id`` is that of the new task or run."""
    id = await call.client.schedules.trigger(call.path["name"])
    return {"message": f"Schedule {call.path['name']} triggered", "id": str(id)}


async def backfill(call: Request[BackfillForm, None]) -> Filled:
    """Fire past ticks that did not fire, at most 1,000; ``until`` defaults to now."""
    form = call.body
    if form.since is None:
        raise Problem(400, ["since should not be empty"])
    until = form.until or clock.now()
    done = await call.client.schedules.backfill(call.path["name"], form.since, until, dry_run=form.dry_run)
    return {"ticks": [stamp(fire.tick) for fire in done.made], "known": done.known, "dryRun": form.dry_run}


async def remove(call: Request[None, None]) -> MessageAnswer:
    """Delete a schedule; its tasks and runs continue."""
    await call.client.schedules.remove(call.path["name"])
    return {"message": f"Schedule {call.path['name']} removed"}


def _entity(stored: StoredSchedule, shown: Shown) -> ScheduleEntity:
    schedule, target = stored.schedule, stored.schedule.target
    task, run = (target, None) if isinstance(target, TaskTarget) else (None, target)
    return {
        "id": str(stored.id),
        "name": stored.name,
        "when": _when(schedule),
        "cron": schedule.cron,
        "seconds": schedule.seconds,
        "everySeconds": schedule.every.total_seconds() if schedule.every else None,
        "at": stamp_or_none(schedule.at),
        "timezone": schedule.timezone,
        "type": task.type if task else None,
        "payload": shown.object(task.payload) if task else None,
        "workflow": run.workflow if run else None,
        "input": shown.object(run.input) if run else None,
        "misfire": schedule.misfire,
        "windowSeconds": None if schedule.window is None else schedule.window.total_seconds(),
        "cap": schedule.cap,
        "overlap": schedule.overlap,
        "jitterSeconds": schedule.jitter.total_seconds(),
        "start": stamp_or_none(schedule.start),
        "end": stamp_or_none(schedule.end),
        "description": schedule.description,
        "paused": stored.paused_at is not None,
        "broken": stored.broken,
        "nextTick": stamp_or_none(stored.next_tick),
        "lastId": str(stored.last_id) if stored.last_id else None,
        "createdAt": stamp(stored.created_at),
        "updatedAt": stamp(stored.updated_at),
    }


def _when(schedule: Schedule) -> str:
    try:
        return describe(schedule)
    except Invalid:  # stored by SQL without validation; its ``broken`` has the error
        return f"{schedule.cron}, {schedule.timezone}"


def _tick(tick: Tick) -> TickEntity:
    return {
        "utc": stamp(tick.at),
        "local": tick.local.isoformat(),
        "zone": tick.local.tzname(),
        "dst": bool(tick.local.dst()),
        "note": tick.note,
    }


def _fire(fire: StoredFire) -> FireEntity:
    return {
        "tick": stamp(fire.tick),
        "cause": fire.cause,
        "reason": fire.reason,
        "detail": fire.detail,
        "until": stamp_or_none(fire.until),
        "blocker": str(fire.blocker) if fire.blocker else None,
        "taskId": str(fire.task_id) if fire.task_id else None,
        "runId": str(fire.run_id) if fire.run_id else None,
        "decidedAt": stamp(fire.decided_at),
    }


ROUTES = (
    post("/api/schedules", create, ScheduleEntity, body=ScheduleForm, errors=(404, 409), keyed=True),
    get("/api/schedules", find, SchedulePage, query=PageQuery),
    get("/api/schedules/{name}", show, ScheduleEntity, errors=(404,)),
    delete("/api/schedules/{name}", remove, MessageAnswer, errors=(404,)),
    get("/api/schedules/{name}/next", next_ticks, Ticks, query=NextQuery, errors=(404,)),
    get("/api/schedules/{name}/fires", fires, Fires, query=FiresQuery, errors=(404,)),
    post("/api/schedules/{name}/pause", pause, MessageAnswer, errors=(404,)),
    post("/api/schedules/{name}/resume", resume, MessageAnswer, errors=(404,)),
    post("/api/schedules/{name}/trigger", trigger, Triggered, errors=(404, 409)),
    post("/api/schedules/{name}/backfill", backfill, Filled, body=BackfillForm, errors=(404, 409)),
)
