"""Types whose work is done elsewhere: what a worker is sent, and what its answer means.

The request is ``{"taskId", "taskType", "attempt", "idempotencyKey", "payload", "headers"}``; the answer
``{"result": …}``, or ``{"error": "…"}`` with ``"final": true`` when trying again is no use, or ``{"snooze": seconds}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import orjson

from qw.core.task.handler_api import Context, Failure, Reject, Snooze
from qw.core.task.payload import Json


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A remote type: dispatched to ``queue`` at the broker, or to ``url`` by POST."""

    type: str
    queue: str | None
    url: str | None
    timeout: timedelta
    max_retries: int


def request(context: Context) -> bytes:
    return orjson.dumps(
        {
            "taskId": str(context.task_id),
            "taskType": context.type,
            "attempt": context.attempt,
            "idempotencyKey": context.idempotency_key,
            "payload": context.payload,
            "headers": context.headers,
        }
    )


def result_of(answer: bytes) -> Json:
    """The result in *answer*. Raises Failure, Reject or Snooze for what else it says; Failure for what is no answer."""
    try:
        said = orjson.loads(answer)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not {"result", "error", "snooze"} & said.keys():
        raise Failure('the worker\'s answer is not {"result": …}, {"error": "…"} or {"snooze": seconds}')
    if "snooze" in said and isinstance(said["snooze"], (int, float)):
        raise Snooze(max(float(said["snooze"]), 0.0))
    if said.get("error") is not None:
        raise (Reject if said.get("final") is True else Failure)(str(said["error"]))
    result: Json = said.get("result")
    return result
