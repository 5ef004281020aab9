"""Runs of workflows."""

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
from qw.web.routes.tasks import MessageAnswer, Reasons, reason_entity
from qw.web.routes.workflows import Graph, GraphQuery
from qw.web.run_serializers import RunEntity, RunWithSteps, run_entity, with_steps


class RunQuery(Form):
    """``workflow`` is the name of one."""

    workflow: str | None = None
    status: RunStatus | None = None
    limit: Limit = 100
    cursor: UUID = LAST_ID


class SignalForm(Form):
    """``payload`` goes with it, whatever it is. ``by`` counts only where no tokens are set."""

    name: Text
    payload: Any = None
    by: str | None = None


class DecisionForm(Form):
    """``step`` may be left out when only one approval waits. ``by`` counts only where no tokens are set."""

    step: str | None = None
    comment: str = ""
    by: str | None = None


class RetryForm(Form):
    """From what failed; or from ``step``, whatever it came to, which may also be a compensation that failed.

    With the definition it started with, the newest one (``latest``), or a ``definition`` for this run only, which may
    not bring programs. ``by`` counts only where no tokens are set.
    """

    step: str | None = None
    latest: Switch = False
    definition: dict[str, Any] | None = None
    by: str | None = None


class DoneForm(Form):
    """``step`` was undone by hand. ``by`` counts only where no tokens are set."""

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
    """Runs, the newest first."""
    query = call.query
    found = await call.client.runs.find(
        workflow=query.workflow, status=query.status, limit=query.limit, before=query.cursor
    )
    return {
        "runs": [run_entity(run) for run in found],
        "nextCursor": str(found[-1].id) if len(found) == query.limit else None,
    }


async def show(call: Request[None, None]) -> RunWithSteps:
    """A run with its steps, in the order they began."""
    return with_steps(await _the_run(call))


async def why(call: Request[None, None]) -> Reasons:
    """What keeps a run from going on, the strongest reason first."""
    found = await _the_run(call)
    return {"reasons": [reason_entity(reason) for reason in await call.client.tasks.why(found.run.id)]}


async def graph(call: Request[None, GraphQuery]) -> Graph:
    """A run drawn as it stands, as text, Mermaid, Graphviz or SVG."""
    run = (await _the_run(call)).run
    found = await call.client.runs.inspect(run.id)
    statuses = {step.step: step.status for step in found.steps}
    return {"format": call.query.format, "graph": drawn(found.workflow, statuses, call.query.format)}


async def signal(call: Request[SignalForm, None]) -> MessageAnswer:
    """Tell a run something that one of its steps waits for, or will wait for."""
    found, form = await _the_run(call), call.body
    await call.client.runs.signal(found.run.id, form.name, form.payload, by=_who(call))
    return {"message": f"Signal {form.name} sent"}


async def approve(call: Request[DecisionForm, None]) -> ApprovalAnswer:
    """Let an approval succeed, and the run go on."""
    found, form = await _the_run(call), call.body
    step = await call.client.runs.approve(found.run.id, form.step, by=_who(call), comment=form.comment)
    return {"message": f"Step {step} approved", "step": step}


async def reject(call: Request[DecisionForm, None]) -> ApprovalAnswer:
    """Let an approval fail, and the run with it, unless it bears that."""
    found, form = await _the_run(call), call.body
    step = await call.client.runs.reject(found.run.id, form.step, by=_who(call), comment=form.comment)
    return {"message": f"Step {step} rejected", "step": step}


async def retry(call: Request[RetryForm, None]) -> MessageAnswer:
    """Let a run that is over go on; what is finished and not undone is kept."""
    found, form = await _the_run(call), call.body
    if form.latest and form.definition is not None:
        raise Problem(400, "latest and definition are mutually exclusive")
    document = None
    if form.definition is not None:
        document = (await call.client.workflows.check(found.run.workflow, form.definition)).document
    await call.client.runs.retry(found.run.id, step=form.step, latest=form.latest, document=document, by=_who(call))
    return {"message": "Run queued for retry"}


async def compensation_done(call: Request[DoneForm, None]) -> ApprovalAnswer:
    """Mark a compensation that failed as done, since somebody has undone the step by hand."""
    found, form = await _the_run(call), call.body
    step = await call.client.runs.mark_compensated(found.run.id, form.step, by=_who(call), comment=form.comment)
    return {"message": f"Step {step} marked as done", "step": step}


def _who(call: Request[Any, None]) -> str:
    """Whose name records show: that of the token, which nobody can make up; else what was said."""
    return call.caller if call.site.settings.api_tokens else call.body.by or call.caller


async def cancel(call: Request[None, None]) -> MessageAnswer:
    """Ask for the end of a run: nothing new starts, what runs is asked to stop."""
    found = await _the_run(call)
    await call.client.runs.cancel(found.run.id, by=call.caller)
    return {"message": "Run cancellation requested"}


async def _the_run(call: Request[Any, Any]) -> RunDetails:
    id = call.id("Run")
    try:
        return await call.client.runs.get(id)
    except NotFound:
        raise Problem(404, f"Run with id {id} not found", code="not_found") from None


ROUTES = (
    get("/api/runs", find, RunPage, query=RunQuery),
    get("/api/runs/{id}", show, RunWithSteps, errors=(404,)),
    get("/api/runs/{id}/graph", graph, Graph, query=GraphQuery, errors=(404,)),
    get("/api/runs/{id}/why", why, Reasons, errors=(404,)),
    post("/api/runs/{id}/signal", signal, MessageAnswer, body=SignalForm, errors=(404, 409)),
    post("/api/runs/{id}/approve", approve, ApprovalAnswer, body=DecisionForm, errors=(404, 409)),
    post("/api/runs/{id}/reject", reject, ApprovalAnswer, body=DecisionForm, errors=(404, 409)),
    post("/api/runs/{id}/retry", retry, MessageAnswer, body=RetryForm, errors=(404, 409)),
    post("/api/runs/{id}/compensation-done", compensation_done, ApprovalAnswer, body=DoneForm, errors=(404, 409)),
    post("/api/runs/{id}/cancel", cancel, MessageAnswer, errors=(404, 409)),
)
