"""How a schedule is read from its document (YAML, a JSON body, flags): every fault at once, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.expression.evaluation import kind
from qw.core.parsing import hint, mapping, refuse_unknown, string
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
from qw.core.task.command import parse_cwd, parse_output, parse_shell, parse_user
from qw.core.task.payload import Json, JsonObject, storable_faults

E = TypeVar("E", bound=StrEnum)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TASK_KEYS = ("queue", "priority", "max_retries", "timeout")
_WHEN_KEYS = ("cron", "every", "at")
_RUN_KEYS = ("shell", "env", "cwd", "stdin", "user", "output")
_KEYS = (
    *_WHEN_KEYS, "seconds", "timezone", "type", "run", *_RUN_KEYS, "workflow", "with", *_TASK_KEYS, "misfire",
    "window",
    "cap", "overlap", "jitter", "start", "end", "paused", "description",
)  # fmt: skip
_EVERY = "@every "
_NO_ID = UUID(int=0)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def parse_schedule(
    name: str,
    document: Json,
    where: Callable[[str], str] = lambda path: path,
    called: Callable[[str], str] = lambda key: f"{key}:",
) -> Schedule:
    """The schedule in *document*. Raise Invalid with every fault.

    *where* turns a path (``cron``) into a place, and *called* says how a message names a key to who wrote the document.
    """
    faults: list[Fault] = []
    schedule = _schedule(name, document, faults, called)
    if schedule is None or faults:
        raise Invalid(*(Fault(path=where(fault.path), message=fault.message) for fault in faults))
    return schedule


def _schedule(name: str, document: Json, faults: list[Fault], called: Callable[[str], str]) -> Schedule | None:
    if not _NAME.fullmatch(name):
        message = f"{name[:60]!r} is not a name of a schedule: letters, digits and _ . - (at most 128)"
        faults.append(Fault(path="name", message=message))
    if not isinstance(document, dict):
        faults.append(
            Fault(path="", message=f"a schedule must be an object with cron:, every: or at:, not {kind(document)}")
        )
        return None
    refuse_unknown(document, _KEYS, "", "a schedule", faults)
    timezone = string(document, "timezone", "", faults) or "UTC"
    zone = _zone(timezone, faults)
    when = _when(document, zone, faults, called)
    window = _duration(document, "window", faults)
    schedule = Schedule(
        name=name,
        target=_target(document, faults, called),
        timezone=timezone,
        misfire=_choice(document, "misfire", Misfire.ONCE, faults),
        window=window if window is not None else None if when.get("at") else timedelta(hours=1),
        cap=_whole(document, "cap", 100, MAX_CAP, faults),
        overlap=_choice(document, "overlap", Overlap.ALLOW, faults),
        jitter=_jitter(document, faults),
        start=_time(document, "start", zone, faults),
        end=_time(document, "end", zone, faults),
        paused=_flag(document, "paused", faults),
        description=string(document, "description", "", faults),
        **when,
    )
    if not faults:
        faults += _never(schedule)
    faults += [Fault(path="description", message=f.message) for f in storable_faults(schedule.description, "")]
    return schedule


def _when(document: JsonObject, zone: tzinfo, faults: list[Fault], called: Callable[[str], str]) -> dict[str, Any]:
    given = [key for key in _WHEN_KEYS if document.get(key) is not None]
    if len(given) != 1:
        cron, every, at = map(called, _WHEN_KEYS)
        message = f"needs one of {cron}, {every} and {at}, not {_given(given, called)}"
        faults.append(Fault(path=given[1] if given else "", message=message))
        return {"at": _LONG_AGO}
    seconds = _flag(document, "seconds", faults)
    if seconds and given != ["cron"]:
        faults.append(Fault(path="seconds", message=f"is allowed with {called('cron')} only"))
    match given:
        case ["cron"]:
            return _cron(document, seconds, faults)
        case ["every"]:
            return {"every": _every(document["every"], "every", faults)}
        case _:
            return {"at": _time(document, "at", zone, faults) or _LONG_AGO}


def _cron(document: JsonObject, seconds: bool, faults: list[Fault]) -> dict[str, Any]:
    text = string(document, "cron", "", faults)
    if text.lower().startswith(_EVERY):
        return {"every": _every(text[len(_EVERY) :], "cron", faults)}
    try:
        return {"cron": parse_cron(text, seconds=seconds).text, "seconds": seconds}
    except Invalid as error:
        faults += error.faults
        return {"cron": text}


def _every(value: Json, path: str, faults: list[Fault]) -> timedelta:
    every = _parsed_duration(value, path, faults)
    if every is not None and every < MIN_EVERY:
        faults.append(Fault(path=path, message="must be at least 1s"))
    return every or MIN_EVERY


def _never(schedule: Schedule) -> Iterator[Fault]:
    start, end = schedule.start, schedule.end
    if end is not None and next(ticks_of(schedule, start or _LONG_AGO, start or _LONG_AGO), None) is None:
        yield Fault(
            path="end", message=f"it never fires: no tick comes{' after its start and' if start else ''} before its end"
        )
    elif schedule.at is not None and start is not None and start > schedule.at:
        yield Fault(path="start", message="it never fires: its time comes before its start")


def _given(keys: Sequence[str], called: Callable[[str], str]) -> str:
    return " and ".join(called(key).rstrip(":") for key in keys) or "none"


def _target(document: JsonObject, faults: list[Fault], called: Callable[[str], str]) -> Target:
    given = [key for key in ("type", "run", "workflow") if document.get(key) is not None]
    if len(given) != 1:
        type, run, workflow = map(called, ("type", "run", "workflow"))
        message = f"needs one of {type}, {run} (a shell command) and {workflow}, not {_given(given, called)}"
        faults.append(Fault(path=given[1] if given else "", message=message))
    if "env" in document and given != ["run"]:
        faults.append(Fault(path="env", message="is allowed with run: only; other values go under with:"))
    for key in _RUN_KEYS:
        if key in document and key != "env" and given != ["run"]:
            faults.append(Fault(path=key, message="is allowed with run: only"))
    if given == ["workflow"]:
        return _workflow(document, faults, called)
    payload = mapping(document, "with", "", faults)
    if given == ["run"]:
        payload = _program(document, payload, faults)
    options: dict[str, Any] = {
        "queue": document.get("queue", "default"),
        "priority": document.get("priority", 5),
        "max_retries": document.get("max_retries"),
        "timeout": _duration(document, "timeout", faults),
    }
    target = TaskTarget(type=string(document, "type", "", faults) or COMMAND, payload=payload, **options)
    faults += _task_faults(target)
    return target


def _workflow(document: JsonObject, faults: list[Fault], called: Callable[[str], str]) -> WorkflowTarget:
    for key in _TASK_KEYS:
        if key in document:
            message = (
                f"is allowed with {called('type')} or {called('run')} only; the steps of a workflow have their own"
            )
            faults.append(Fault(path=key, message=message))
    given = mapping(document, "with", "", faults)
    faults += [fault for fault, _ in zip(storable_faults(given, "with"), range(10), strict=False)]
    return WorkflowTarget(workflow=string(document, "workflow", "", faults), input=given)


def _program(document: JsonObject, given: JsonObject, faults: list[Fault]) -> JsonObject:
    run, env = string(document, "run", "", faults), mapping(document, "env", "", faults)
    if not run.strip():
        faults.append(Fault(path="run", message="must be the text of a shell command"))
    faults += [Fault(path=f"env.{n}", message="must be text") for n, value in env.items() if not isinstance(value, str)]
    if given and document.get("stdin") is not None:
        faults.append(Fault(path="stdin", message="give stdin: or with:, not both: with: is passed on stdin too"))
    payload: JsonObject = {"run": run, **({"env": env} if env else {})}
    for key, parse in _PARSERS.items():
        if parse(document.get(key), key, faults):
            payload[key] = document[key]
    stdin = given or document.get("stdin")
    return payload if stdin is None or stdin == {} else {**payload, "input": stdin}


_PARSERS: Mapping[str, Callable[[Json, str, list[Fault]], object]] = {
    "shell": parse_shell,
    "cwd": parse_cwd,
    "user": parse_user,
    "output": parse_output,
}


def _task_faults(target: TaskTarget) -> Iterator[Fault]:
    """What the store would refuse about the tasks that the schedule makes: one place has these rules."""
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


def _time(document: JsonObject, key: str, zone: tzinfo, faults: list[Fault]) -> datetime | None:
    """The time at *key*: ISO 8601. One without an offset is meant on the clocks of *zone*."""
    value = document.get(key)
    if value is None:
        return None
    try:
        if not isinstance(value, str) or len(value) > 40:
            raise ValueError
        time = datetime.fromisoformat(value)
        time = (zones.instant(time, zone) if time.tzinfo is None else time).astimezone(UTC)
    except (ValueError, OverflowError):
        faults.append(Fault(path=key, message=f"{str(value)[:60]!r} is not a time such as 2026-11-30T08:00:00Z"))
        return None
    if not 1970 <= time.year <= 2200:
        faults.append(Fault(path=key, message=f"the year {time.year} is not between 1970 and 2200"))
        return None
    return time


def _duration(document: JsonObject, key: str, faults: list[Fault]) -> timedelta | None:
    value = document.get(key)
    return None if value is None else _parsed_duration(value, key, faults)


def _parsed_duration(value: Json, path: str, faults: list[Fault]) -> timedelta | None:
    try:
        return parse_duration(value)
    except Invalid as error:
        faults += [Fault(path=path, message=fault.message) for fault in error.faults]
        return None


def _jitter(document: JsonObject, faults: list[Fault]) -> timedelta:
    jitter = _duration(document, "jitter", faults) or timedelta(0)
    if jitter > MAX_JITTER:
        faults.append(Fault(path="jitter", message="is longer than a day"))
    return jitter


def _choice(document: JsonObject, key: str, default: E, faults: list[Fault]) -> E:
    value = document.get(key, default.value)
    choices = type(default)
    if value in list(choices):
        return choices(value)
    known = [choice.value for choice in choices]
    message = f"{str(value)[:60]!r} is not one of {', '.join(known)}{hint(str(value), known, faults)}"
    faults.append(Fault(path=key, message=message))
    return default


def _whole(document: JsonObject, key: str, default: int, most: int, faults: list[Fault]) -> int:
    value = document.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    faults.append(Fault(path=key, message=f"{str(value)[:60]!r} is not an integer from 1 to {most}"))
    return default


def _flag(document: JsonObject, key: str, faults: list[Fault]) -> bool:
    value = document.get(key, False)
    if not isinstance(value, bool):
        faults.append(Fault(path=key, message=f"must be true or false, not {kind(value)}"))
    return value is True
