"""How a step's task is run: ``retry:``, ``timeout:``, ``queue:`` and ``priority:`` in its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from qw.core.errors import Fault, Invalid
from qw.core.fields import DURATION, NAMES, TEXT, Field, Object, Type, as_is, integer, number
from qw.core.parsing import below, names
from qw.core.task import DEFAULT_PRIORITY, DEFAULT_QUEUE, Backoff, NewTask, check_new
from qw.core.task.error_kind import pattern_fault
from qw.core.task.payload import Json

_NO_ID = UUID(int=0)


def error_patterns(value: Json, path: str, faults: list[Fault]) -> tuple[str, ...]:
    """Return patterns for kinds of errors and exception classes; adds to *faults*."""
    patterns = names(value, path, faults)
    for pattern in patterns:
        if message := pattern_fault(pattern):
            faults.append(Fault(path=path, message=message))
    return patterns


_USUAL = Backoff()
_PATTERNS = Type(error_patterns, NAMES.schema)
RETRY = Object(
    "retry",
    {
        "max_retries": Field(as_is(integer(1, 32_000).schema), "Maximum number of attempts, including the first"),
        "delay": Field(DURATION, "Delay before the second attempt", default=_USUAL.delay),
        "backoff": Field(number(1, 1000), "Factor by which the delay grows with each attempt", default=_USUAL.factor),
        "max_delay": Field(DURATION, "Maximum delay between attempts", default=_USUAL.max_delay),
        "on": Field(
            _PATTERNS,
            "Kinds of errors to retry, such as timeout, exit:75, http:5xx, or exception classes; default: all",
            alias="retry_on",
            default=(),
        ),
        "give_up_on": Field(_PATTERNS, "Kinds of errors not to retry; takes precedence", default=()),
    },
    ref="retry",
)


def _tries(value: Json, path: str, faults: list[Fault]) -> tuple[int | None, Backoff | None]:
    """Return the maximum of attempts and the backoff; None: the policy of the type applies."""
    said = RETRY.read(value, path, faults)
    backoff = Backoff(
        delay=said["delay"],
        factor=float(said["backoff"]),
        max_delay=said["max_delay"],
        retry_on=said["on"],
        give_up_on=said["give_up_on"],
    )
    return said["max_retries"], backoff if isinstance(value, dict) and not value.keys() <= {"max_retries"} else None


POLICY_FIELDS = {
    "retry": Field(Type(_tries, RETRY.schema), "How often and when a failed attempt is retried", default=(None, None)),
    "timeout": Field(DURATION, "Maximum duration of an attempt, or of a wait"),
    "queue": Field(as_is(TEXT.schema), "Queue of the task", default=DEFAULT_QUEUE),
    "priority": Field(as_is(integer(0, 9).schema), "Priority from 0 to 9; lower runs first", default=DEFAULT_PRIORITY),
}


def read_policy(said: Mapping[str, Any], type_: str, path: str, faults: list[Fault]) -> dict[str, Any]:
    """Return the policy fields of a step. None: the policy of the type applies."""
    max_retries, backoff = said["retry"]
    policy = {key: said[key] for key in ("timeout", "queue", "priority") if key in said}
    faults += task_faults(NewTask(type=type_, id=_NO_ID, max_retries=max_retries, **policy), path)
    return {"max_retries": max_retries, "backoff": backoff, **policy}


def type_faults(type_: str, path: str) -> Iterator[Fault]:
    """Yield the faults that the store would report for a task of this type."""
    return task_faults(NewTask(type=type_, id=_NO_ID), path)


def task_faults(task: NewTask, path: str) -> Iterator[Fault]:
    """Yield the faults that the store would report for the step's task, so that the rules are in one place."""
    try:
        check_new(task)
    except Invalid as error:
        for fault in error.faults:
            place = "retry.max_retries" if fault.path == "max_retries" else fault.path
            yield Fault(path=below(path, place), message=fault.message)
