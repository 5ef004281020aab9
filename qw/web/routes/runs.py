"""Workflow runs: list, inspect, signal, approve, cancel, retry."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from qw.client.runs import RunDetails
from qw.core.errors import NotFound
from qw.core.workflow.picture import drawn
from qw.core.workflow.run import RunStatus
from qw.store.tasks import LAST_ID
from qw.web.errors import Problem
from qw.web.fields import Form, Id, Limit, Switch, Text
from qw.web.route import Request, get, post
from qw.web.routes.tasks import MessageAnswer, Reasons, SignalForm, reason_entity
from qw.web.routes.workflows import Graph, GraphQuery
from qw.web.run_serializers import RunEntity, RunWithSteps, run_entity, with_steps


class RunQuery(Form):
    """``workflow`` is the name of a workflow."""

    workflow: str | None = None
    status: RunStatus | None = None
    limit: Limit = 100
    cursor: UUID = LAST_ID


class RunDetailsQuery(Form):
    """``reveal``: include values that are masked because they look secret; operators only."""

    reveal: bool = False


class DecisionForm(Form):
    """``step`` may be omitted if only one approval waits. ``by`` is ignored if access tokens are configured."""

    step: str | None = None
    comment: str = ""
    by: str | None = None


class RetryForm(Form):
    """Retry from the failed steps, or from ``step``, which may be any step or a failed compensation.

    The run keeps its definition, or takes the newest (``latest``), or ``definition``, for this run only, which must not
    run programs. ``by`` is ignored if access tokens are configured.
    """

    step: str | None = None
    latest: Switch = False
    definition: dict[str, Any] | None = None
    by: str | None = None


class DoneForm(Form):
    """``step`` was undone by hand. ``by`` is ignored if access tokens are configured."""

    step: Text
    comment: str = ""
    by: str | None = None


class ApprovalAnswer(TypedDict):
    message: str
    step: str


class RunPage(TypedDict):
    runs: list[RunEntity]
    nextCursor: Id | None


async def find(call: Request[None, RunQuery]) -> RunPage:
    """List runs, newest first."""
    query = call.query
    page = await call.client.runs.find(
        workflow=query.workflow, status=query.status, limit=query.limit, before=query.cursor
    )
    return {
        "runs": [run_entity(run, call.shown) for run in page],
        "nextCursor": str(page[-1].id) if len(page) == query.limit else None,
    }


async def show(call: Request[None, RunDetailsQuery]) -> RunWithSteps:
    """Get a run with its steps, in start order."""
    details, shown = await the_run(call), call.shown_to_operators(reveal=call.query.reveal)
    if call.query.reveal:
        await call.note_reveal("workflow", details.run.id)
    return with_steps(details, shown)


async def why(call: Request[None, None]) -> Reasons:
    """Explain why a run does not progress: reasons, most important first."""
    details = await the_run(call)
    return {"reasons": [reason_entity(reason) for reason in await call.client.tasks.why(details.run.id)]}


async def graph(call: Request[None, GraphQuery]) -> Graph:
    """Get a diagram of a run in its current state, as text, Mermaid, Graphviz or SVG."""
    run = (await the_run(call)).run
    inspected = await call.client.runs.inspect(run.id)
    statuses = {step.step_id: step.status for step in inspected.steps}
    return {"format": call.query.format, "graph": drawn(inspected.workflow, statuses, call.query.format)}


async def signal(call: Request[SignalForm, None]) -> MessageAnswer:
    """Send a signal to a run, for a step that waits for it now or later."""
    details, form = await the_run(call), call.body
    await call.client.runs.signal(details.run.id, form.name, form.payload, by=_who(call))
    return {"message": f"Signal {form.name} sent"}


async def approve(call: Request[DecisionForm, None]) -> ApprovalAnswer:
    """Approve an approval step; the run continues."""
    details, form = await the_run(call), call.body
    step = await call.client.runs.approve(details.run.id, form.step, by=_who(call), comment=form.comment)
    return {"message": f"Step {step} approved", "step": step}


async def reject(call: Request[DecisionForm, None]) -> ApprovalAnswer:
    """Reject an approval step: it fails, and the run with it unless ``continue_on_error`` is set."""
    details, form = await the_run(call), call.body
    step = await call.client.runs.reject(details.run.id, form.step, by=_who(call), comment=form.comment)
    return {"message": f"Step {step} rejected", "step": step}


async def retry(call: Request[RetryForm, None]) -> MessageAnswer:
    """Retry a final run; completed steps that were not compensated are kept."""
    details, form = await the_run(call), call.body
    if form.latest and form.definition is not None:
        raise Problem(400, "latest and definition are mutually exclusive")
    document = None
    if form.definition is not None:
        document = (await call.client.workflows.check(details.run.workflow, form.definition)).document
    await call.client.runs.retry(details.run.id, step=form.step, latest=form.latest, document=document, by=_who(call))
    return {"message": "Run queued for retry"}


async def compensation_done(call: Request[DoneForm, None]) -> ApprovalAnswer:
    """Mark a failed compensation as completed, because the step was undone by hand."""
    details, form = await the_run(call), call.body
    step = await call.client.runs.mark_compensated(details.run.id, form.step, by=_who(call), comment=form.comment)
    return {"message": f"Step {step} marked as done", "step": step}


def _who(call: Request[Any, None]) -> str:
    return call.recorded_name(call.body.by)


async def cancel(call: Request[None, None]) -> MessageAnswer:
    """Cancel a run: no further step starts, running steps are asked to stop."""
    details = await the_run(call)
    await call.client.runs.cancel(details.run.id, by=call.caller.name)
    return {"message": "Run cancellation requested"}


async def the_run(call: Request[Any, Any]) -> RunDetails:
    id = call.id("Run")
    try:
        return await call.client.runs.get(id)
    except NotFound:
        raise Problem(404, f"Run with id {id} not found", code="not_found") from None


ROUTES = (
    get("/api/runs", find, RunPage, query=RunQuery),
    get("/api/runs/{id}", show, RunWithSteps, query=RunDetailsQuery, errors=(404,)),
    get("/api/runs/{id}/graph", graph, Graph, query=GraphQuery, errors=(404,)),
    get("/api/runs/{id}/why", why, Reasons, errors=(404,)),
    post("/api/runs/{id}/signal", signal, MessageAnswer, body=SignalForm, errors=(404, 409)),
    post("/api/runs/{id}/approve", approve, ApprovalAnswer, body=DecisionForm, errors=(404, 409)),
    post("/api/runs/{id}/reject", reject, ApprovalAnswer, body=DecisionForm, errors=(404, 409)),
    post("/api/runs/{id}/retry", retry, MessageAnswer, body=RetryForm, errors=(404, 409)),
    post("/api/runs/{id}/compensation-done", compensation_done, ApprovalAnswer, body=DoneForm, errors=(404, 409)),
    post("/api/runs/{id}/cancel", cancel, MessageAnswer, errors=(404, 409)),
)
