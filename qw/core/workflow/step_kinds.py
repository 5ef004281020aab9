"""Steps without a task: ``sleep``, ``wait_signal``, ``approval``, ``workflow``, ``switch``; and their ``with:``."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.expression import has_expression
from qw.core.expression.evaluation import kind
from qw.core.fields import ANYTHING, Field, Object
from qw.core.parsing import below
from qw.core.task.payload import Json, JsonObject

SIGNAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}")
MAX_SIGNALS = 10_000
WORKFLOW_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class StepKind(StrEnum):
    """The kind of a step. All except TASK are reserved types, which no worker runs: the engine handles these steps."""

    TASK = "task"
    SLEEP = "sleep"
    SIGNAL = "wait_signal"
    APPROVAL = "approval"
    WORKFLOW = "workflow"
    SWITCH = "switch"


KINDS = {kind.value: kind for kind in StepKind if kind is not StepKind.TASK}

_PARAMETERS = {
    StepKind.SLEEP: {
        "for": Field(ANYTHING, "Duration of the sleep"),
        "until": Field(ANYTHING, "End of the sleep: a time with a time zone"),
    },
    StepKind.SIGNAL: {
        "signal": Field(ANYTHING, "Name of the signal; default: the id of the step"),
        "count": Field(ANYTHING, "Number of signals to wait for; default: one"),
    },
    StepKind.APPROVAL: {"message": Field(ANYTHING, "Text shown to the approver")},
    StepKind.WORKFLOW: {
        "workflow": Field(ANYTHING, "Name of the workflow"),
        "input": Field(ANYTHING, "Input of the run"),
    },
    StepKind.SWITCH: {},
}
PARAMETERS = {of: Object(f"with: of type {of.value}", fields) for of, fields in _PARAMETERS.items()}
"""The allowed keys of ``with:`` by kind."""


def check_parameters(of: StepKind, payload: JsonObject, path: str, faults: list[Fault]) -> None:
    """Add the faults of *payload* that can be found before its expressions are evaluated."""
    if of is StepKind.TASK:
        return
    PARAMETERS[of].read(payload, path, faults)
    if of is StepKind.SLEEP and len(payload.keys() & {"for", "until"}) != 1:
        faults.append(Fault(path=path, message="a sleep needs either for: (a duration) or until: (a time)"))
    elif of is StepKind.WORKFLOW:
        _check_child(payload, path, faults)
    if not has_expression(payload):
        try:
            _evaluate(of, payload)
        except Invalid as error:
            faults += [Fault(path=below(path, fault.path), message=fault.message) for fault in error.faults]


def _check_child(payload: JsonObject, path: str, faults: list[Fault]) -> None:
    name = payload.get("workflow")
    if not isinstance(name, str) or not WORKFLOW_NAME.fullmatch(name):
        faults.append(Fault(path=below(path, "workflow"), message="must be the name of a workflow"))
    if "input" in payload and not isinstance(payload["input"], (dict, str)):
        faults.append(Fault(path=below(path, "input"), message=f"must be an object, not {kind(payload['input'])}"))


def _evaluate(of: StepKind, payload: JsonObject) -> None:
    if of is StepKind.SLEEP:
        sleep_end(payload, datetime(2000, 1, 1, tzinfo=UTC))
    elif of is StepKind.SIGNAL:
        signal_name(payload, "step")
        signal_count(payload)


def sleep_end(payload: JsonObject, now: datetime) -> datetime:
    """Return when a sleep that begins *now* ends. Raise Invalid."""
    if "for" in payload:
        try:
            return now + parse_duration(payload["for"])
        except OverflowError:
            raise Invalid(Fault(path="for", message="is too long")) from None
        except Invalid as error:
            raise Invalid(*(Fault(path="for", message=fault.message) for fault in error.faults)) from None
    return _time(payload.get("until"))


def _time(value: Json) -> datetime:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not 1970 <= at.year <= 2200:
        message = f"{str(value)[:60]!r} is not a time with its zone, such as 2026-01-31T09:00:00Z"
        raise Invalid(Fault(path="until", message=message))
    return at


def awaited_signal(kind: StepKind, payload: object, step_id: str) -> str | None:
    """Return the name of the signal that a step waits for, unevaluated; None if it waits for none."""
    if kind is not StepKind.SIGNAL or not isinstance(payload, dict):
        return None
    name = payload.get("signal", step_id)
    return name if isinstance(name, str) else None


def signal_count(payload: JsonObject) -> int | None:
    """Return how many signals a step waits for; None: one, whose payload is the result. Raise Invalid."""
    count = payload.get("count")
    if count is None or (isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_SIGNALS):
        return count
    message = f"must be an integer from 0 to {MAX_SIGNALS:,}, not {str(count)[:60]!r}"
    raise Invalid(Fault(path="count", message=message))


def signal_name(payload: JsonObject, step_id: str) -> str:
    """Return the name of the signal that a step waits for, by default its own id. Raise Invalid."""
    name = payload.get("signal", step_id)
    if isinstance(name, str) and SIGNAL_NAME.fullmatch(name):
        return name
    message = f"{str(name)[:60]!r} is not a name of a signal: letters, digits and _ . / - (at most 128)"
    raise Invalid(Fault(path="signal", message=message))
