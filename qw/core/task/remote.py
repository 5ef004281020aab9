"""Remote task types: the request to a remote worker, and the meaning of its answer.

The request is ``{"taskId", "taskType", "attempt", "idempotencyKey", "payload", "headers"}``; the answer
``{"result": …}``, or ``{"error": "…"}`` (with ``"final": true``: do not retry), or ``{"snooze": seconds}``.
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
    """Return the result in *answer*. Raise Failure, Reject or Snooze for other answers, Failure for an invalid one."""
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
