"""The built-in invoice workflow: start it now or later, and list its tasks by customer."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NotRequired
from uuid import UUID

from typing_extensions import TypedDict

from qw.core.task.payload import JsonObject
from qw.web.enqueueing import NewTaskForm, due, enqueued
from qw.web.fields import Date, Form, Id, NeededDate, Text, moment
from qw.web.route import Request, get, post
from qw.web.run_serializers import RunWithSteps, ended_in_time
from qw.web.serializers import TaskSummary, stamp, task_summary

WORKFLOW = "invoice"


class InvoiceForm(Form):
    customer_id: Text
    date_from: Date = None
    date_to: Date = None
    workflow_id: UUID | None = None


class ScheduledInvoiceForm(InvoiceForm):
    scheduled_at: NeededDate


class ScheduledEmailForm(Form):
    customer_id: Text
    invoice_id: Text
    scheduled_at: NeededDate


class Started(TypedDict):
    message: str
    taskId: Id
    workflowId: NotRequired[Id]


class ScheduledStart(TypedDict):
    message: str
    taskId: Id
    scheduledAt: str


class CustomerTasks(TypedDict):
    customerId: str
    tasks: list[TaskSummary]


class WorkflowCounts(TypedDict):
    totalTasks: int
    completedTasks: int
    failedTasks: int
    isComplete: bool


class CustomerStatus(TypedDict):
    customerId: str
    totalTasks: int
    completedTasks: int
    failedTasks: int
    pendingTasks: int
    processingTasks: int
    workflows: dict[str, WorkflowCounts]


async def start(call: Request[InvoiceForm, None]) -> Started | RunWithSteps:
    """Start the invoice workflow for a customer. ``taskId`` is its first task, already committed.

    With ``Prefer: wait=N`` the response is the run, if it is final within N seconds.
    """
    run_id, task_id = await _start(call, call.body)
    if ended := await ended_in_time(call, run_id):
        return ended
    started: Started = {"message": "Invoice workflow started", "taskId": str(task_id)}
    if call.body.workflow_id:
        started["workflowId"] = str(call.body.workflow_id)
    return started


async def schedule(call: Request[ScheduledInvoiceForm, None]) -> ScheduledStart:
    """Start the invoice workflow at a given time."""
    at = moment(call.body.scheduled_at)
    _, task_id = await _start(call, call.body, run_at=due(at))
    return {
        "message": "Scheduled invoice workflow created",
        "taskId": str(task_id),
        "scheduledAt": call.body.scheduled_at,
    }


async def schedule_email(call: Request[ScheduledEmailForm, None]) -> ScheduledStart:
    """Send the mail for an invoice at a given time."""
    at = moment(call.body.scheduled_at)
    payload = {"customerId": call.body.customer_id, "invoiceId": call.body.invoice_id}
    id = await enqueued(call, NewTaskForm(type="send_email", payload=payload), run_at=at)
    return {"message": "Scheduled email workflow created", "taskId": str(id), "scheduledAt": stamp(at)}


async def tasks(call: Request[None, None]) -> CustomerTasks:
    """List the newest tasks of a customer, at most 1,000."""
    customer = call.path["customerId"]
    return {
        "customerId": customer,
        "tasks": [task_summary(task) for task in await call.client.tasks.of_customer(customer)],
    }


async def status(call: Request[None, None]) -> CustomerStatus:
    """Count the tasks of a customer by run."""
    customer = call.path["customerId"]
    counts = await call.client.tasks.customer_counts(customer)
    return {
        "customerId": customer,
        "totalTasks": sum(count.total for count in counts),
        "completedTasks": sum(count.completed for count in counts),
        "failedTasks": sum(count.failed for count in counts),
        "pendingTasks": sum(count.pending for count in counts),
        "processingTasks": sum(count.processing for count in counts),
        "workflows": {
            count.filed_under: {
                "totalTasks": count.total,
                "completedTasks": count.completed,
                "failedTasks": count.failed,
                "isComplete": count.completed == count.total and not count.is_open,
            }
            for count in counts
        },
    }


async def _start(call: Request[Any, None], form: InvoiceForm, *, run_at: datetime | None = None) -> tuple[UUID, UUID]:
    """Start the run and return it with its first task."""
    if form.workflow_id:
        await call.client.workflows.by_id(form.workflow_id)
    input: JsonObject = {"customerId": form.customer_id, "dateFrom": form.date_from, "dateTo": form.date_to}
    key = call.header(b"idempotency-key")
    run_id = await call.client.runs.start_shipped(
        WORKFLOW, input, filed_under=form.workflow_id, run_at=run_at, idempotency_key=key
    )
    steps = (await call.client.runs.get(run_id)).steps
    return run_id, next(step.task_id for step in steps if step.task_id)


ROUTES = (
    post(
        "/api/invoice/workflow/start",
        start,
        Started | RunWithSteps,
        body=InvoiceForm,
        errors=(404, 409),
        keyed=True,
        waits=True,
    ),
    post(
        "/api/invoice/workflow/scheduled",
        schedule,
        ScheduledStart,
        body=ScheduledInvoiceForm,
        errors=(404, 409),
        keyed=True,
    ),
    post(
        "/api/invoice/email/scheduled",
        schedule_email,
        ScheduledStart,
        body=ScheduledEmailForm,
        errors=(409,),
        keyed=True,
    ),
    get("/api/invoice/tasks/{customerId}", tasks, CustomerTasks),
    get("/api/invoice/status/{customerId}", status, CustomerStatus),
)
