"""``concurrency:`` of a workflow: how many of its runs with the same key go on at a time, and what becomes of more."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qw.core.errors import Fault
from qw.core.expression import Scope, Template
from qw.core.expression.evaluation import kind, text
from qw.core.parsing import below, hint, mapping, refuse_unknown
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.task_template import template

_MOST = 10_000
_LONGEST_KEY = 200


class OnLimit(StrEnum):
    QUEUE = "queue"  # wait, the oldest first
    SKIP = "skip"  # end at once, as cancelled
    CANCEL_RUNNING = "cancel_running"  # ask the oldest to stop, then take their place


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    key: Template
    limit: int = 1
    on_limit: OnLimit = OnLimit.QUEUE

    def key_of(self, workflow: str, input: JsonObject) -> str:
        """What runs are limited by: the name of the workflow and the value of the key. Raise ExpressionError."""
        scope: Scope = {"input": input, "steps": {}, "run": {"workflow": workflow}, "env": {}}
        return f"{workflow}: {text(self.key.render(scope))}"[:_LONGEST_KEY]


def parse_concurrency(document: JsonObject, faults: list[Fault]) -> Concurrency | None:
    """The limit in *document*, None when there is none. Adds to *faults*."""
    if document.get("concurrency") is None:
        return None
    given = mapping(document, "concurrency", "", faults)
    refuse_unknown(given, ("key", "limit", "on_limit"), "concurrency", "concurrency", faults)
    key = template(given.get("key", ""), "concurrency.key", faults)
    if key.names() or key.is_of_item:
        faults.append(Fault(path="concurrency.key", message="is known before any step: it may use input only"))
    return Concurrency(
        key=key, limit=_limit(given.get("limit", 1), faults), on_limit=_on_limit(given.get("on_limit", "queue"), faults)
    )


def _limit(value: Json, faults: list[Fault]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST:
        return value
    message = f"must be an integer from 1 to {_MOST}, not {str(value)[:60]!r}"
    faults.append(Fault(path="concurrency.limit", message=message))
    return 1


def _on_limit(value: Json, faults: list[Fault]) -> OnLimit:
    if isinstance(value, str) and value in list(OnLimit):
        return OnLimit(value)
    shown = repr(value[:60]) if isinstance(value, str) else kind(value)
    message = (
        f"must be one of {', '.join(OnLimit)}, not {shown}{hint(str(value), [one.value for one in OnLimit], faults)}"
    )
    faults.append(Fault(path=below("concurrency", "on_limit"), message=message))
    return OnLimit.QUEUE
