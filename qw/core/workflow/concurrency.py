"""``concurrency:`` of a workflow: how many runs with the same key are active at a time, and what happens to others."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qw.core.errors import Fault
from qw.core.expression import Scope, Template
from qw.core.expression.evaluation import text
from qw.core.fields import Field, Object, Type, choice, integer
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.task_template import template

_MOST = 10_000
_LONGEST_KEY = 200


class OnLimit(StrEnum):
    QUEUE = "queue"  # wait; the oldest run starts first
    SKIP = "skip"  # cancel the new run at once
    CANCEL_RUNNING = "cancel_running"  # ask the oldest runs to stop, then start


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    key: Template
    limit: int = 1
    on_limit: OnLimit = OnLimit.QUEUE

    def key_of(self, workflow: str, input: JsonObject) -> str:
        """Return the name of the workflow and the value of the key, which limit its runs. Raise ExpressionError."""
        scope: Scope = {"input": input, "steps": {}, "run": {"workflow": workflow}, "env": {}}
        return f"{workflow}: {text(self.key.render(scope))}"[:_LONGEST_KEY]


def _key(value: Json, path: str, faults: list[Fault]) -> Template:
    key = template(value, path, faults)
    if key.names() or key.is_of_item:
        faults.append(Fault(path=path, message="is evaluated before any step runs, so it can use only input"))
    return key


CONCURRENCY = Object(
    "concurrency",
    {
        "key": Field(
            Type(_key, {}), "Concurrency group: runs with the same value share the limit", default=Template(root="")
        ),
        "limit": Field(integer(1, _MOST), "Maximum number of active runs with the same key", default=1),
        "on_limit": Field(choice(OnLimit), "What happens to a run above the limit", default=OnLimit.QUEUE),
    },
    ref="concurrency",
)
