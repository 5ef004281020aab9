"""Schedules declared with `Handlers.periodic`, checked when the program is imported."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from qw.core.duration import format_duration
from qw.core.errors import Fault, Invalid
from qw.core.task.payload import JsonObject

if TYPE_CHECKING:
    from qw.core.schedule import Schedule
    from qw.handlers.task_function import TaskFunction


def document_of(
    task: TaskFunction[..., ..., Any],
    *,
    cron: str | None,
    every: timedelta | None,
    payload: JsonObject | None,
    **options: Any,
) -> JsonObject:
    """Return the document of a schedule for *task*, as a definition file would contain it. Raise Invalid."""
    try:
        values = task.payload(**(payload or {}))
    except TypeError as error:
        raise Invalid(f"periodic: {error}; give the arguments of its tasks as payload=") from None
    document: JsonObject = {
        "cron": cron,
        "every": _text(every),
        "type": task.type,
        "with": values,
        **{name: _text(value) for name, value in options.items()},
    }
    return {name: value for name, value in document.items() if value not in (None, "", {}, False)}


def parse(name: str, document: JsonObject) -> Schedule:
    """Parse the schedule *name*. Raise Invalid with every fault."""
    from qw.core.schedule.document import parse_schedule

    try:
        return parse_schedule(name, document)
    except Invalid as error:
        raise Invalid(
            *(
                Fault(path=f"periodic {name}: {fault.path}".rstrip(": "), message=fault.message)
                for fault in error.faults
            )
        ) from None


def _text(value: Any) -> Any:
    return format_duration(value) if isinstance(value, timedelta) else value
