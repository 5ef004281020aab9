"""Workflows: create, update, start, progress, diagram; and their runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from qw.client.workflows import WorkflowProgress
from qw.core.errors import Conflict, Fault, Invalid
from qw.core.task import Status
from qw.core.task.masking import masked_error
from qw.core.task.payload import shortened
from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.picture import PictureForm, drawn
from qw.core.workflow.rehearsal import rehearse
from qw.definitions import schema as schemas
from qw.definitions.tests import WorkflowTest, parse_assumptions, parse_test
from qw.store.tasks import LAST_ID
from qw.web.errors import Problem
from qw.web.fields import Form, Id, Limit, Switch, Text
from qw.web.route import Request, delete, get, post, put
from qw.web.routes.tasks import MessageAnswer
from qw.web.run_serializers import RunWithSteps, ended_in_time
from qw.web.serializers import (
    TaskEntity,
    TaskSummary,
    WorkflowEntity,
    entities,
    task_summary,
    workflow_entity,
)

TEST_SECONDS = 10.0  # time limit for all tests of a request; one takes up to 2 s
FAULT_LENGTH = 2000  # characters: an error may contain a megabyte of input


class WorkflowForm(Form):
    name: Annotated[Text, Field(max_length=255)]
    definition: dict[str, Any]
    is_active: Switch = True


class WorkflowChange(Form):
    """Omitted fields keep their value."""

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    definition: dict[str, Any] | None = None
    is_active: Switch | None = None


class StartForm(Form):
    """``input``: values for the inputs that the workflow declares."""

    input: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return {**value, "input": {}} if isinstance(value, dict) and value.get("input") is None else value


class ValidateForm(Form):
    definition: dict[str, Any]
    name: Annotated[Text, Field(max_length=255)] = "workflow"


class PlanForm(ValidateForm):
    """``assume``: the assumed outcomes of steps, by id: a status, ``failed:KIND``, or ``{"result": …}``."""

    input: dict[str, Any] = Field(default_factory=dict)
    assume: dict[str, Any] = Field(default_factory=dict)


class TestForm(ValidateForm):
    """``tests``: by name, each as under ``tests:`` of a file, without ``workflow``."""

    tests: Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1000)]


class PlannedStep(TypedDict):
    step: str
    status: str
    why: str


class Planned(TypedDict):
    """``status`` is ``running`` for a run that does not end by itself. ``steps`` are in the order of the run."""

    status: str
    error: str | None
    steps: list[PlannedStep]


class TestResult(TypedDict):
    name: str
    passed: bool
    faults: list[str]


class TestResults(TypedDict):
    passed: int
    failed: int
    tests: list[TestResult]


class GraphQuery(Form):
    format: PictureForm = PictureForm.ASCII


class Graph(TypedDict):
    format: PictureForm
    graph: str


class WorkflowQuery(Form):
    limit: Limit = 100
    cursor: UUID = LAST_ID


class WorkflowFilter(WorkflowQuery):
    active: bool | None = None


class OneWorkflow(TypedDict):
    message: str
    workflow: WorkflowEntity


class WorkflowList(TypedDict):
    message: str
    workflows: list[WorkflowEntity]
    total: int
    nextCursor: Id | None


class WorkflowStarted(TypedDict):
    message: str
    workflowId: Id
    runId: Id


class WorkflowTask(TaskSummary):
    error: str | None


class WorkflowStatus(TypedDict):
    workflowId: Id
    workflowName: str
    isActive: bool
    totalTasks: int
    completedTasks: int
    failedTasks: int
    pendingTasks: int
    processingTasks: int
    isComplete: bool
    hasFailures: bool
    isInProgress: bool
    progress: int
    tasks: list[WorkflowTask]


class WorkflowWithTasks(WorkflowEntity):
    tasks: list[TaskEntity]


class OneWorkflowWithTasks(TypedDict):
    message: str
    workflow: WorkflowWithTasks


async def create(call: Request[WorkflowForm, None]) -> OneWorkflow:
    """Create a workflow from a definition ``{initialTask, transitions}`` or ``{steps}``."""
    form = call.body
    key = call.header(b"idempotency-key")
    workflow = await call.client.workflows.create(
        form.name, form.definition, is_active=form.is_active, idempotency_key=key
    )
    return {"message": "Workflow created successfully", "workflow": workflow_entity(workflow)}


async def find(call: Request[None, WorkflowFilter]) -> WorkflowList:
    """List workflows, newest first; ``active`` selects only active or only inactive ones."""
    return await _list(call, "Workflows retrieved successfully", is_active=call.query.active)


async def find_active(call: Request[None, WorkflowQuery]) -> WorkflowList:
    """List active workflows, newest first."""
    return await _list(call, "Active workflows retrieved successfully", is_active=True)


async def _list(call: Request[None, Any], message: str, *, is_active: bool | None) -> WorkflowList:
    query: WorkflowQuery = call.query
    workflows = await call.client.workflows.find(is_active=is_active, before=query.cursor, limit=query.limit)
    return {
        "message": message,
        "workflows": [workflow_entity(workflow) for workflow in workflows],
        "total": await call.client.workflows.count(is_active=is_active),
        "nextCursor": str(workflows[-1].id) if len(workflows) == query.limit else None,
    }


async def show(call: Request[None, None]) -> OneWorkflow:
    """Get a workflow, with the status of its latest run."""
    workflow = await call.client.workflows.by_id(call.id("Workflow"))
    return {"message": "Workflow retrieved successfully", "workflow": workflow_entity(workflow)}


async def change(call: Request[WorkflowChange, None]) -> OneWorkflow:
    """Update a workflow; existing runs keep the definition they started with."""
    form = call.body
    workflow = await call.client.workflows.update(
        call.id("Workflow"), title=form.name, document=form.definition, is_active=form.is_active
    )
    return {"message": "Workflow updated successfully", "workflow": workflow_entity(workflow)}


async def activate(call: Request[None, None]) -> OneWorkflow:
    """Activate a workflow, so that runs can be started."""
    workflow = await call.client.workflows.update(call.id("Workflow"), is_active=True)
    return {"message": "Workflow activated successfully", "workflow": workflow_entity(workflow)}


async def deactivate(call: Request[None, None]) -> OneWorkflow:
    """Deactivate a workflow: no new runs can be started; existing runs continue."""
    workflow = await call.client.workflows.update(call.id("Workflow"), is_active=False)
    return {"message": "Workflow deactivated successfully", "workflow": workflow_entity(workflow)}


async def remove(call: Request[None, None]) -> MessageAnswer:
    """Delete a workflow; its runs continue."""
    await call.client.workflows.delete(call.id("Workflow"))
    return {"message": "Workflow deleted successfully"}


async def start(call: Request[StartForm, None]) -> WorkflowStarted | RunWithSteps:
    """Start a run of a workflow. With ``Prefer: wait=N`` the response is the run, if it is final within N seconds."""
    id = call.id("Workflow")
    key = call.header(b"idempotency-key")
    try:
        run_id = await call.client.runs.start_filed(id, call.body.input, idempotency_key=key)
    except Conflict as conflict:
        if conflict.holder:
            raise
        raise Problem(400, "Cannot start inactive workflow", code="conflict") from None
    if ended := await ended_in_time(call, run_id):
        return ended
    return {"message": "Workflow started successfully", "workflowId": str(id), "runId": str(run_id)}


async def status(call: Request[None, None]) -> WorkflowStatus:
    """Get the progress of a workflow: its tasks by status, over all its runs."""
    progress = await call.client.workflows.progress(call.id("Workflow"))
    counts, workflow = progress.counts, progress.workflow
    is_complete = 0 < progress.total == counts[Status.COMPLETED] and not progress.open_runs
    return {
        "workflowId": str(workflow.id),
        "workflowName": workflow.title,
        "isActive": workflow.is_active,
        "totalTasks": progress.total,
        "completedTasks": counts[Status.COMPLETED],
        "failedTasks": counts[Status.FAILED],
        "pendingTasks": counts[Status.PENDING] + counts[Status.RETRYING],
        "processingTasks": counts[Status.PROCESSING],
        "isComplete": is_complete,
        "hasFailures": counts[Status.FAILED] > 0,
        "isInProgress": _is_in_progress(progress),
        "progress": progress.percent,
        "tasks": [{**task_summary(task), "error": masked_error(task.error)} for task in progress.tasks],
    }


def _is_in_progress(progress: WorkflowProgress) -> bool:
    live = (Status.PENDING, Status.PROCESSING, Status.RETRYING)
    return progress.open_runs > 0 or any(progress.counts[status] for status in live)


async def with_tasks(call: Request[None, None]) -> OneWorkflowWithTasks:
    """Get a workflow with its newest tasks, at most 1,000."""
    progress = await call.client.workflows.progress(call.id("Workflow"))
    shown = await entities(call.client, progress.tasks, shown=call.shown)
    return {
        "message": "Workflow with tasks retrieved successfully",
        "workflow": {**workflow_entity(progress.workflow), "tasks": shown},
    }


async def graph(call: Request[None, GraphQuery]) -> Graph:
    """Get a diagram of a workflow, as text, Mermaid, Graphviz or SVG."""
    stored = await call.client.workflows.by_id(call.id("Workflow"))
    format = call.query.format
    return {"format": format, "graph": drawn(parse_workflow(stored.name, stored.document), {}, format)}


async def validate(call: Request[ValidateForm, None]) -> MessageAnswer:
    """Validate a definition without storing it."""
    await call.client.workflows.check(call.body.name, call.body.definition)
    return {"message": "Workflow definition is valid"}


async def plan(call: Request[PlanForm, None]) -> Planned:
    """Return which steps of a definition would run, in which order and why. Runs and stores nothing."""
    form = call.body
    workflow = _parsed(form)
    assumed = parse_assumptions(form.assume, "assume")
    rehearsal = await asyncio.to_thread(rehearse, workflow, form.input, assumed)
    return {
        "status": rehearsal.ended.status.value if rehearsal.ended else "running",
        "error": rehearsal.ended.error if rehearsal.ended else None,
        "steps": [{"step": entry.step, "status": entry.status.value, "why": entry.why} for entry in rehearsal.entries],
    }


async def test(call: Request[TestForm, None]) -> TestResults:
    """Test whether a definition leads to the expected outcomes. Runs and stores nothing."""
    form = call.body
    workflows = {form.name: _parsed(form)}
    tests = {name: _test(name, document, form.name) for name, document in form.tests.items()}
    results = await asyncio.to_thread(lambda: list(_results(tests, workflows)))
    passed = sum(result["passed"] for result in results)
    return {"passed": passed, "failed": len(results) - passed, "tests": results}


def _test(name: str, document: dict[str, Any], workflow: str) -> WorkflowTest:
    return parse_test(name, {**document, "workflow": workflow}, lambda path: f"tests.{name}.{path}")


def _parsed(form: ValidateForm) -> Workflow:
    return parse_workflow(form.name, form.definition, lambda path: f"definition.{path}" if path else "definition")


def _results(tests: Mapping[str, WorkflowTest], workflows: Mapping[str, Workflow]) -> Iterator[TestResult]:
    until = time.monotonic() + TEST_SECONDS
    for count, (name, test) in enumerate(tests.items()):
        if time.monotonic() > until:
            message = f"took longer than {TEST_SECONDS:g} s: {count} of {len(tests)} ran; send fewer at a time"
            raise Invalid(Fault(path="tests", message=message))
        yield _result(name, test, workflows)


def _result(name: str, test: WorkflowTest, workflows: Mapping[str, Workflow]) -> TestResult:
    try:
        faults = [shortened(fault, FAULT_LENGTH) for fault in test.faults(workflows)]
    except Invalid as error:
        faults = [shortened(str(error), FAULT_LENGTH)]
    return {"name": name, "passed": not faults, "faults": faults}


async def schema(call: Request[None, None]) -> dict[str, Any]:
    """Get the JSON Schema of definition files, for editors."""
    return schemas.schema()


_ONE = "/api/workflows/{id}"

ROUTES = (
    post("/api/workflows", create, OneWorkflow, body=WorkflowForm, errors=(404, 409), keyed=True),
    get("/api/workflows", find, WorkflowList, query=WorkflowFilter),
    get("/api/workflows/active", find_active, WorkflowList, query=WorkflowQuery),
    post("/api/workflows/validate", validate, MessageAnswer, body=ValidateForm),
    post("/api/workflows/plan", plan, Planned, body=PlanForm),
    post("/api/workflows/test", test, TestResults, body=TestForm),
    get("/api/workflows/schema", schema, dict[str, Any]),
    get(_ONE, show, OneWorkflow, errors=(404,)),
    put(_ONE, change, OneWorkflow, body=WorkflowChange, errors=(404,)),
    delete(_ONE, remove, MessageAnswer, errors=(404,)),
    put(f"{_ONE}/activate", activate, OneWorkflow, errors=(404,)),
    put(f"{_ONE}/deactivate", deactivate, OneWorkflow, errors=(404,)),
    post(
        f"{_ONE}/start",
        start,
        WorkflowStarted | RunWithSteps,
        body=StartForm,
        errors=(404, 409),
        keyed=True,
        waits=True,
    ),
    get(f"{_ONE}/graph", graph, Graph, query=GraphQuery, errors=(404,)),
    get(f"{_ONE}/status", status, WorkflowStatus, errors=(404,)),
    get(f"{_ONE}/with-tasks", with_tasks, OneWorkflowWithTasks, errors=(404,)),
)
