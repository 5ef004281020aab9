"""`compensation`: undoes completed tasks, with the compensation that each task type declares.

In a run it undoes every completed task of the run, the last completed first; outside a run, the one task that its
payload names. Each undo is a checkpoint, so that a retry continues where the failed attempt stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from qw.core.task.handler_api import Context, Recorded, Records, Reject, Retry, Snooze
from qw.core.task.payload import Json, JsonObject, clean
from qw.handlers.registry import Handlers

NOTHING = "nothing to undo"


class Undo(BaseModel, alias_generator=to_camel, validate_by_name=True, coerce_numbers_to_str=True):
    original_task_id: UUID | None = None
    original_task_type: str | None = None
    compensation_action: str | None = None
    customer_id: str | None = None
    reason: str | None = None


def add_compensation(app: Handlers, records: Records) -> None:
    """Register the handler. *app* must be the object that the daemon serves, since its types declare how to undo."""

    @app.handler("compensation", max_retries=5)
    async def compensation(payload: Undo, context: Context) -> Json:
        wanted = payload.original_task_id or context.parent_id
        if context.run_id is None and wanted is None:
            raise Reject("nothing is named that could be undone: give originalTaskId")
        done = await _completed(records, context, wanted)
        undone: list[Json] = [await _undo_once(app, context, recorded) for recorded in done]
        if wanted is not None and context.run_id is None and not done:
            undone.append(_entry(wanted, payload.original_task_type, NOTHING, "the task is not completed"))
        return {"compensated": undone, "reason": payload.reason}


async def _completed(records: Records, context: Context, wanted: UUID | None) -> Sequence[Recorded]:
    if context.run_id is not None:
        return await records.completed_of_run(context.run_id)
    recorded = await records.completed_task(wanted) if wanted else None
    return [recorded] if recorded else []


async def _undo_once(app: Handlers, context: Context, recorded: Recorded) -> JsonObject:
    async def undo() -> JsonObject:
        return await _undo(app, context, recorded)

    return await context.step(f"undo:{recorded.task_id}", undo)


async def _undo(app: Handlers, context: Context, recorded: Recorded) -> JsonObject:
    handler = app.get(recorded.type)
    if handler is None:
        # Retry, because another daemon may serve the type; "nothing to undo" would leave the task's effect in place.
        raise Retry(f"task {recorded.task_id} is not undone: this daemon does not serve its type {recorded.type!r}")
    if handler.compensate is None:
        return _entry(recorded.task_id, recorded.type, NOTHING, None)
    try:
        detail = clean(await handler.compensate(context, recorded))
    except Snooze:
        raise
    except Exception as error:
        failure = Reject if isinstance(error, Reject) else Retry
        raise failure(
            f"undoing {recorded.type} {recorded.task_id} failed: {str(error) or type(error).__name__}"
        ) from error
    await context.log(f"undone: {recorded.type} {recorded.task_id}")
    return _entry(recorded.task_id, recorded.type, "undone", detail)


def _entry(task_id: UUID, type: str | None, action: str, detail: Json) -> JsonObject:
    return {"taskId": str(task_id), "type": type, "action": action, "detail": detail}
