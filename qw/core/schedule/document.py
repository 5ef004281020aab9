"""Parses a schedule from a document (YAML, a JSON body, flags) and reports all faults, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.fields import DURATION, FLAG, OBJECT, TEXT, Field, Object, as_is, by_name, choice, integer, parsed
from qw.core.parsing import check_name, raise_at
from qw.core.schedule import zones
from qw.core.schedule.cron import parse_cron
from qw.core.schedule.schedule import (
    COMMAND,
    MAX_CAP,
    MAX_JITTER,
    MIN_EVERY,
    Misfire,
    Overlap,
    Schedule,
    Target,
    TaskTarget,
    WorkflowTarget,
    ticks_of,
)
from qw.core.task import check_new
from qw.core.task.payload import Json, JsonObject, storable_faults
from qw.core.task.run_fields import RUN_FIELDS

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_EVERY = "@every "
_NO_ID = UUID(int=0)


def _interval(value: Json) -> timedelta:
    every = parse_duration(value)
    if every < MIN_EVERY:
        raise Invalid("must be at least 1s")
    return every


def _jitter(value: Json) -> timedelta:
    jitter = parse_duration(value)
    if jitter > MAX_JITTER:
        raise Invalid("is longer than a day")
    return jitter


_INTERVAL = parsed(_interval, DURATION.schema)
_WHEN = {
    "cron": Field(TEXT, "Cron expression, a macro such as @daily, or @every 90s"),
    "every": Field(_INTERVAL, "Interval between ticks"),
    "at": Field(TEXT, "Time of a single tick"),
}
_RUN = {**RUN_FIELDS, "env": Field(by_name(TEXT), "Environment variables of run", default={})}
_TASK = {
    "queue": Field(as_is(TEXT.schema), "Queue of the tasks", default="default"),
    "priority": Field(as_is(integer(0, 9).schema), "Priority from 0 to 9; lower runs first", default=5),
    "max_retries": Field(as_is(integer(1, 32_000).schema), "Maximum number of attempts, including the first"),
    "timeout": Field(DURATION, "Maximum duration of an attempt"),
}
SCHEDULE = Object(
    "a schedule",
    {
        **_WHEN,
        "seconds": Field(FLAG, "If true, cron has a field for seconds, the first of six", default=False),
        "timezone": Field(TEXT, "Time zone of cron and at; default: UTC", default="UTC"),
        "type": Field(TEXT, "Task type"),
        "run": Field(TEXT, "Shell script; pass values through env"),
        **_RUN,
        "workflow": Field(TEXT, "Name of a workflow"),
        "with": Field(OBJECT, "Payload of the task, or input of the run", default={}),
        **_TASK,
        "misfire": Field(choice(Misfire), "What happens to missed ticks", default=Misfire.ONCE),
        "window": Field(DURATION, "Maximum lateness at which a missed tick still fires"),
        "cap": Field(integer(1, MAX_CAP), "Maximum number of missed ticks that fire", default=100),
        "overlap": Field(
            choice(Overlap),
            "What happens to a tick while the task or run of the previous tick is active",
            default=Overlap.ALLOW,
        ),
        "jitter": Field(parsed(_jitter, DURATION.schema), "Maximum random delay of a tick", default=timedelta(0)),
        "start": Field(TEXT, "Time before which no tick fires"),
        "end": Field(TEXT, "Time after which no tick fires"),
        "paused": Field(FLAG, "If true, no tick fires", default=False),
        "description": Field(TEXT, default=""),
    },
    ref="schedule",
    must="a schedule must be an object with cron:, every: or at:",
)


def parse_schedule(
    name: str,
    document: Json,
    where: Callable[[str], str] = lambda path: path,
    called: Callable[[str], str] = lambda key: f"{key}:",
) -> Schedule:
    """Return the schedule in *document*. Raise Invalid with all faults.

    *where* converts a path (``cron``) to a place. *called* returns the name of a key as the author of the document
    knows it.
    """
    faults: list[Fault] = []
    check_name(name, "schedule", faults, "name")
    said = SCHEDULE.read(document, "", faults)
    schedule = _schedule(name, said, document, faults, called) if isinstance(document, dict) else None
    raise_at(where, faults)
    assert schedule is not None
    return schedule


def _schedule(
    name: str, said: Mapping[str, Any], document: JsonObject, faults: list[Fault], called: Callable[[str], str]
) -> Schedule:
    zone = _zone(said["timezone"], faults)
    when = _when(said, document, zone, faults, called)
    schedule = Schedule(
        name=name,
        target=_target(said, document, faults, called),
        timezone=said["timezone"],
        misfire=said["misfire"],
        window=said["window"] if said["window"] is not None or when.get("at") else timedelta(hours=1),
        cap=said["cap"],
        overlap=said["overlap"],
        jitter=said["jitter"],
        start=_time(said["start"], "start", zone, faults),
        end=_time(said["end"], "end", zone, faults),
        paused=said["paused"],
        description=said["description"],
        **when,
    )
    if not faults:
        faults += _never(schedule)
    faults += [Fault(path="description", message=f.message) for f in storable_faults(schedule.description, "")]
    return schedule


def _when(
    said: Mapping[str, Any], document: JsonObject, zone: tzinfo, faults: list[Fault], called: Callable[[str], str]
) -> dict[str, Any]:
    keys = [key for key in _WHEN if document.get(key) is not None]
    if len(keys) != 1:
        cron, every, at = map(called, _WHEN)
        message = f"needs one of {cron}, {every} and {at}, not {_given(keys, called)}"
        faults.append(Fault(path=keys[1] if keys else "", message=message))
        return {"at": _LONG_AGO}
    if said["seconds"] and keys != ["cron"]:
        faults.append(Fault(path="seconds", message=f"is allowed only with {called('cron')}"))
    match keys:
        case ["cron"]:
            return _cron(said["cron"] or "", said["seconds"], faults)
        case ["every"]:
            return {"every": said["every"] or MIN_EVERY}
        case _:
            return {"at": _time(said["at"], "at", zone, faults) or _LONG_AGO}


def _cron(text: str, seconds: bool, faults: list[Fault]) -> dict[str, Any]:
    if text.lower().startswith(_EVERY):
        return {"every": _INTERVAL.read(text[len(_EVERY) :], "cron", faults) or MIN_EVERY}
    try:
        return {"cron": parse_cron(text, seconds=seconds).text, "seconds": seconds}
    except Invalid as error:
        faults += error.faults
        return {"cron": text}


def _never(schedule: Schedule) -> Iterator[Fault]:
    start, end = schedule.start, schedule.end
    if end is not None and next(ticks_of(schedule, start or _LONG_AGO, start or _LONG_AGO), None) is None:
        yield Fault(
            path="end",
            message=f"it never fires: it has no tick{' after its start and' if start else ''} before its end",
        )
    elif schedule.at is not None and start is not None and start > schedule.at:
        yield Fault(path="start", message="it never fires: its time comes before its start")


def _given(keys: Sequence[str], called: Callable[[str], str]) -> str:
    return " and ".join(called(key).rstrip(":") for key in keys) or "none"


def _target(said: Mapping[str, Any], document: JsonObject, faults: list[Fault], called: Callable[[str], str]) -> Target:
    keys = [key for key in ("type", "run", "workflow") if document.get(key) is not None]
    if len(keys) != 1:
        type, run, workflow = map(called, ("type", "run", "workflow"))
        message = f"needs one of {type}, {run} (a shell command) and {workflow}, not {_given(keys, called)}"
        faults.append(Fault(path=keys[1] if keys else "", message=message))
    for key in _RUN if keys != ["run"] else ():
        if key in document:
            advice = "; other values go under with:" if key == "env" else ""
            faults.append(Fault(path=key, message=f"is allowed only with run:{advice}"))
    if keys == ["workflow"]:
        return _workflow(said, document, faults, called)
    payload = _program(said, document, faults) if keys == ["run"] else said["with"]
    target = TaskTarget(type=said["type"] or COMMAND, payload=payload, **{key: said[key] for key in _TASK})
    faults += _task_faults(target)
    return target


def _workflow(
    said: Mapping[str, Any], document: JsonObject, faults: list[Fault], called: Callable[[str], str]
) -> WorkflowTarget:
    for key in _TASK:
        if key in document:
            message = (
                f"is allowed only with {called('type')} or {called('run')}; the steps of a workflow have their own"
            )
            faults.append(Fault(path=key, message=message))
    faults += [fault for fault, _ in zip(storable_faults(said["with"], "with"), range(10), strict=False)]
    return WorkflowTarget(workflow=said["workflow"] or "", input=said["with"])


def _program(said: Mapping[str, Any], document: JsonObject, faults: list[Fault]) -> JsonObject:
    run, env, payload = said["run"] or "", said["env"], said["with"]
    if not run.strip():
        faults.append(Fault(path="run", message="must be the text of a shell command"))
    if payload and said["stdin"] is not None:
        faults.append(Fault(path="stdin", message="give stdin: or with:, not both: with: is passed on stdin too"))
    program = {"run": run, "env": env, **{key: document.get(key) for key in ("shell", "cwd", "user", "output")}}
    program["input"] = payload or said["stdin"]
    return {key: value for key, value in program.items() if value is not None and value != {}}


def _task_faults(target: TaskTarget) -> Iterator[Fault]:
    """Yield the faults that the store would report about the schedule's tasks, so that the rules are in one place."""
    try:
        check_new(target.task(_NO_ID))
    except Invalid as error:
        yield from (Fault(path=re.sub("^payload", "with", f.path), message=f.message) for f in error.faults)


def _zone(name: str, faults: list[Fault]) -> tzinfo:
    try:
        return zones.zone(name)
    except Invalid as error:
        faults += error.faults
        return UTC


def _time(value: str | None, key: str, zone: tzinfo, faults: list[Fault]) -> datetime | None:
    """Parse an ISO 8601 time. Without an offset, it is local time in *zone*."""
    if value is None:
        return None
    try:
        if len(value) > 40:
            raise ValueError
        time = datetime.fromisoformat(value)
        time = (zones.instant(time, zone) if time.tzinfo is None else time).astimezone(UTC)
    except (ValueError, OverflowError):
        faults.append(Fault(path=key, message=f"{value[:60]!r} is not a time such as 2026-11-30T08:00:00Z"))
        return None
    if not 1970 <= time.year <= 2200:
        faults.append(Fault(path=key, message=f"the year {time.year} is not between 1970 and 2200"))
        return None
    return time
