"""How a step's task is tried, read from its document: ``retry:``, ``timeout:``, ``queue:``, ``priority:``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.parsing import below, mapping, names, refuse_unknown
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, Backoff, NewTask, check_new
from qw.core.task.error_kind import pattern_fault
from qw.core.task.payload import Json, JsonObject

POLICY_KEYS = ("retry", "timeout", "queue", "priority")

_RETRY_KEYS = ("max_retries", "delay", "backoff", "max_delay", "on", "retry_on", "give_up_on")
_NO_ID = UUID(int=0)


def parse_policy(document: JsonObject, type_: str, path: str, faults: list[Fault]) -> dict[str, Any]:
    """The fields of a step that say how it is tried. What is None is left to the policy of its type."""
    retry, retry_path = mapping(document, "retry", path, faults), below(path, "retry")
    refuse_unknown(retry, _RETRY_KEYS, retry_path, "retry", faults)
    policy: dict[str, Any] = {
        "max_retries": retry.get("max_retries"),
        "timeout": duration(document, "timeout", path, faults),
        "queue": document.get("queue", DEFAULT_QUEUE),
        "priority": document.get("priority", DEFAULT_PRIORITY),
    }
    faults += task_faults(NewTask(type=type_, id=_NO_ID, **policy), path)
    return {**policy, "backoff": _backoff(retry, retry_path, faults)}


def type_faults(type_: str, path: str) -> Iterator[Fault]:
    """What the store would refuse about a task of this type."""
    return task_faults(NewTask(type=type_, id=_NO_ID), path)


def task_faults(task: NewTask, path: str) -> Iterator[Fault]:
    """What the store would refuse about the task that a step makes: one place has these rules."""
    try:
        check_new(task)
    except Invalid as error:
        for fault in error.faults:
            place = "retry.max_retries" if fault.path == "max_retries" else fault.path
            yield Fault(path=below(path, place), message=fault.message)


def _backoff(retry: JsonObject, path: str, faults: list[Fault]) -> Backoff | None:
    if retry.keys() <= {"max_retries"}:
        return None
    usual = Backoff()
    delay, max_delay = (duration(retry, key, path, faults) for key in ("delay", "max_delay"))
    factor = retry.get("backoff", usual.factor)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 <= factor <= 1000:
        faults.append(Fault(path=below(path, "backoff"), message=f"must be a number from 1 to 1000, not {factor!r}"))
        factor = usual.factor
    on = "retry_on" if "retry_on" in retry else "on"
    if "on" in retry and "retry_on" in retry:
        faults.append(Fault(path=below(path, "retry_on"), message="'retry_on' means 'on'; give one of them"))
    return Backoff(
        delay=usual.delay if delay is None else delay,
        factor=float(factor),
        max_delay=usual.max_delay if max_delay is None else max_delay,
        retry_on=error_patterns(retry.get(on), below(path, on), faults),
        give_up_on=error_patterns(retry.get("give_up_on"), below(path, "give_up_on"), faults),
    )


def error_patterns(value: Json, path: str, faults: list[Fault]) -> tuple[str, ...]:
    """Kinds of errors and exception classes; adds to *faults*."""
    patterns = names(value, path, faults)
    for pattern in patterns:
        if message := pattern_fault(pattern):
            faults.append(Fault(path=path, message=message))
    return patterns


def duration(document: JsonObject, key: str, path: str, faults: list[Fault]) -> timedelta | None:
    """The duration at *key*, None when it is left out or wrong."""
    value = document.get(key)
    if value is None:
        return None
    try:
        return parse_duration(value)
    except Invalid as error:
        faults += [Fault(path=below(path, key), message=fault.message) for fault in error.faults]
        return None
