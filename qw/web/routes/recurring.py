"""Recurring tasks and invoices: schedules, in the recurring-task format of this API."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, WithJsonSchema
from typing_extensions import TypedDict

from qw.core.errors import Invalid, NotFound
from qw.core.schedule import Schedule, Target, TaskTarget, WorkflowTarget
from qw.core.schedule.cron import parse_cron
from qw.core.task import Status
from qw.core.task.payload import JsonObject
from qw.store.schedules import StoredSchedule
from qw.web.enqueueing import NewTaskForm, check, id_of_key
from qw.web.fields import Id, wrong
from qw.web.route import Request, post
from qw.web.routes.invoice import WORKFLOW, InvoiceForm
from qw.web.serializers import TaskEntity, stamp
from qw.web.shown import Shown

_INVALID = "Invalid cron expression format"


def _cron(value: Any) -> str:
    if value is None:
        raise wrong(_INVALID, "cronExpression should not be empty", "cronExpression must be a string")
    if not isinstance(value, str):
        raise wrong(_INVALID, "cronExpression must be a string")
    if not value.strip():
        raise wrong(_INVALID, "cronExpression should not be empty")
    try:
        return parse_cron(value).text
    except Invalid as error:
        raise wrong(_INVALID, *(f"cronExpression: {fault.message}" for fault in error.faults)) from None


CronExpression = Annotated[
    str,
    BeforeValidator(_cron),
    Field(default=None, validate_default=True),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256}),
]


class RecurringTaskForm(NewTaskForm):
    cron_expression: CronExpression


class RecurringInvoiceForm(InvoiceForm):
    cron_expression: CronExpression


class RecurringStart(TypedDict):
    message: str
    taskId: Id
    cronExpression: str


async def create(call: Request[RecurringTaskForm, None]) -> TaskEntity:
    """Create a task at every tick of a cron expression, in UTC. Cancelling the returned task ends the recurrence."""
    await check(call, call.body)
    id = await _add(call, TaskTarget(type=call.body.type, payload=call.body.payload))
    return _entity(await call.client.schedules.get(id), call.shown)


async def create_invoice(call: Request[RecurringInvoiceForm, None]) -> RecurringStart:
    """Start the invoice workflow at every tick of a cron expression, in UTC. Cancelling the returned task ends it."""
    form = call.body
    if form.workflow_id:
        await call.client.workflows.by_id(form.workflow_id)
    await call.client.workflows.save_shipped(WORKFLOW)
    input: JsonObject = {"customerId": form.customer_id, "dateFrom": form.date_from, "dateTo": form.date_to}
    id = await _add(call, WorkflowTarget(workflow=WORKFLOW, input=input))
    return {
        "message": "Recurring invoice workflow created",
        "taskId": str(id),
        "cronExpression": form.cron_expression,
    }


async def entity_of(call: Request[Any, Any], id: UUID) -> TaskEntity | None:
    """The recurring task with this id, or None."""
    try:
        return _entity(await call.client.schedules.get(id), call.shown)
    except NotFound:
        return None


async def removed(call: Request[Any, Any], id: UUID) -> bool:
    """End a recurring task. Return False if there is none with this id."""
    try:
        await call.client.schedules.remove(id)
    except NotFound:
        return False
    return True


async def _add(call: Request[Any, Any], target: Target) -> UUID:
    id = id_of_key(call)
    schedule = Schedule(name=str(id), cron=call.body.cron_expression, target=target, filed_under=call.body.workflow_id)
    await call.client.schedules.add(schedule, id=id)
    return id


def _entity(stored: StoredSchedule, shown: Shown) -> TaskEntity:
    target, under = stored.schedule.target, stored.schedule.filed_under
    task = target if isinstance(target, TaskTarget) else TaskTarget(type="fetch_orders", payload=target.input)
    return {
        "id": str(stored.id),
        "createdAt": stamp(stored.created_at),
        "updatedAt": stamp(stored.updated_at),
        "deletedAt": None,
        "type": task.type,
        "payload": {**shown.object(task.payload), "cronExpression": stored.schedule.cron, "isRecurring": True},
        "status": Status.PENDING,
        "retries": 0,
        "maxRetries": task.max_retries or 3,
        "error": stored.broken,
        "errorKind": None,
        "scheduledAt": None,
        "result": None,
        "queue": task.queue,
        "priority": task.priority,
        "attempt": 0,
        "startedAt": None,
        "finishedAt": None,
        "workflowId": str(under) if under else None,
        "runId": None,
        "stepId": None,
    }


_INVOICE = "/api/invoice/workflow/recurring"

ROUTES = (
    post("/api/scheduler/tasks/recurring", create, TaskEntity, body=RecurringTaskForm, errors=(404, 409), keyed=True),
    post(_INVOICE, create_invoice, RecurringStart, body=RecurringInvoiceForm, errors=(404, 409), keyed=True),
)
