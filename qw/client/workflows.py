"""Workflows as people file them by any name they like, and the tasks and customers found under them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from uuid import UUID

from qw.client import Client
from qw.core.errors import Conflict, Fault, Invalid, NotFound, guess
from qw.core.task import FILED_UNDER, Status, Task, key_faults
from qw.core.task.payload import Json, JsonObject, raise_faults
from qw.core.workflow import Workflow, parse_workflow
from qw.store import runs, tasks, workflows
from qw.store.ids import new_id
from qw.store.tasks import LAST_ID, Filter
from qw.store.workflows import CustomerCounts, CustomerTask, FiledWorkflow

COUNTED = 10_000  # totals are exact up to here
MOST = 1000  # tasks that are shown with their workflow

SHIPPED = ("invoice",)  # stored when they are first needed, so that nobody else may have the name

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Total:
    """How many match. From 10,000 on it is an estimate."""

    count: int
    is_estimate: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkflowProgress:
    """The tasks under a workflow by status, exact to 10,000. ``to_come``: steps of open runs that have no task yet."""

    workflow: FiledWorkflow
    counts: Mapping[Status, int]
    open_runs: int
    to_come: int
    tasks: list[Task]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def percent(self) -> int:
        expected = self.total + self.to_come
        return int(100 * self.counts[Status.COMPLETED] / expected) if expected else 0


async def find_tasks(client: Client, match: Filter, *, under: UUID | None, limit: int, before: UUID) -> list[Task]:
    """Matching tasks, the newest first; those under a workflow where that is given."""
    if under is None:
        return await client.find(match, limit=limit, before=before)
    async with client.connection() as conn:
        found = await tasks.get(conn, await workflows.find_tasks(conn, under, match, limit=limit, before=before))
    return [task for task in found if match.status in (None, task.status)]


async def count_tasks(client: Client, match: Filter, *, under: UUID | None) -> Total:
    """How many tasks `find_tasks` would find. Without a filter, or by status and queue only, always exact."""
    if under is None and match == Filter(status=match.status, queue=match.queue):
        stats = [one for one in await client.stats() if match.queue in (None, one.queue)]
        return Total(count=sum(one.total if match.status is None else getattr(one, match.status) for one in stats))
    async with client.connection() as conn:
        if under is not None:
            count = await workflows.count_tasks(conn, under, match, limit=COUNTED + 1)
            return Total(count=count, is_estimate=count > COUNTED)
        count = await tasks.count(conn, match, limit=COUNTED + 1)
        if count <= COUNTED:
            return Total(count=count)
        return Total(count=max(count, await tasks.estimate(conn, match)), is_estimate=True)


async def filed_under(client: Client, found: Sequence[Task]) -> Mapping[UUID, UUID]:
    """The workflow that each task belongs to, by task."""
    if not any(task.run_id or FILED_UNDER in (task.headers or {}) for task in found):
        return {}
    async with client.connection() as conn:
        return await workflows.filed_under(conn, found)


async def find(
    client: Client, *, is_active: bool | None = None, before: UUID = LAST_ID, limit: int = MOST
) -> list[FiledWorkflow]:
    """The workflows, the newest first."""
    async with client.connection() as conn:
        return await workflows.find(conn, is_active=is_active, before=before, limit=limit)


async def count(client: Client, *, is_active: bool | None = None) -> int:
    async with client.connection() as conn:
        return await workflows.count(conn, is_active=is_active)


async def get(client: Client, ids: Collection[UUID]) -> dict[UUID, FiledWorkflow]:
    """Those of the workflows that exist."""
    if not ids:
        return {}
    async with client.connection() as conn:
        return {one.id: one for one in await workflows.find(conn, ids=list(ids), limit=len(ids))}


async def get_one(client: Client, id: UUID) -> FiledWorkflow:
    """Raise NotFound when there is none."""
    async with client.connection() as conn:
        return _only(await workflows.find(conn, ids=[id]), id)


def _only(found: Sequence[FiledWorkflow], id: UUID) -> FiledWorkflow:
    if not found:
        raise NotFound(f"Workflow with ID {id} not found")
    return found[0]


async def create(
    client: Client, title: str, document: Json, *, is_active: bool = True, idempotency_key: str | None = None
) -> FiledWorkflow:
    """Store a workflow under a name made of *title*, which others may have too. Raise Invalid with every fault.

    Safe to repeat by *idempotency_key*.
    """
    raise_faults(iter(key_faults("idempotency_key", idempotency_key)))
    workflow = await checked(client, _slug(title), document)
    id = new_id()
    async with client.operating() as conn, conn.transaction():
        if idempotency_key is not None:
            holder = await runs.take_key(conn, idempotency_key, id, f"workflow {title}", workflow.document)
            if holder != id:
                return _only(await workflows.find(conn, ids=[holder]), holder)
        name = _unless_reserved(workflow.name)
        while not await workflows.create(conn, id, name=name, title=title, is_active=is_active):
            name = _with_suffix(workflow.name)
        await runs.keep_workflow(conn, name, workflow.document)
    return await get_one(client, id)


async def update(
    client: Client, id: UUID, *, title: str | None = None, document: Json = None, is_active: bool | None = None
) -> FiledWorkflow:
    """Change what is not None. A new document is a new version; runs that started keep theirs."""
    stored = await get_one(client, id)
    workflow = None if document is None else await checked(client, stored.name, document)
    async with client.operating() as conn, conn.transaction():
        name = await workflows.update(conn, id, title=title, is_active=is_active)
        if name and workflow:
            await runs.keep_workflow(conn, name, workflow.document)
    return await get_one(client, id)


async def delete(client: Client, id: UUID) -> None:
    """Delete a workflow; its runs go on. Raise NotFound when there is none."""
    async with client.operating() as conn:
        if not await workflows.delete(conn, id):
            raise NotFound(f"Workflow with ID {id} not found")


async def start(
    client: Client, id: UUID, input: JsonObject | None = None, *, idempotency_key: str | None = None
) -> UUID:
    """Start a run. Raise Conflict when the workflow is not active."""
    stored = await get_one(client, id)
    if not stored.is_active:
        raise Conflict("Cannot start inactive workflow")
    return await client.start_workflow(stored.name, input, idempotency_key=idempotency_key)


async def progress(client: Client, id: UUID) -> WorkflowProgress:
    """How the runs of a workflow are getting on, with its newest thousand tasks."""
    stored = await get_one(client, id)
    async with client.snapshot() as conn:
        counts = {
            status: await workflows.count_tasks(conn, id, Filter(status=status), limit=COUNTED) for status in Status
        }
        open_runs = await workflows.open_runs(conn, id)
        documents = await runs.documents(conn, sorted({run.version for run in open_runs}))
        found = await tasks.get(conn, await workflows.find_tasks(conn, id, Filter(), limit=MOST))
    sizes = {version: len(parse_workflow(stored.name, document).steps) for version, document in documents.items()}
    return WorkflowProgress(
        workflow=stored,
        counts=counts,
        open_runs=len(open_runs),
        to_come=sum(max(sizes[run.version] - run.begun, 0) for run in open_runs),
        tasks=found,
    )


async def start_shipped(
    client: Client, name: str, input: JsonObject, *, under: UUID | None = None, **when: object
) -> UUID:
    """Start a workflow that comes with qw; it is stored first where it is missing."""
    await keep_shipped(client, name)
    return await client.start_workflow(name, input, filed_under=under, **when)  # type: ignore[arg-type]


async def keep_shipped(client: Client, name: str) -> None:
    """Store a workflow that comes with qw where it is missing."""
    async with client.connection() as conn:
        is_stored = bool(await runs.workflows(conn, name))
        if not is_stored:
            workflow = _shipped(name)
            await runs.keep_workflow(conn, workflow.name, workflow.document)


def _shipped(name: str) -> Workflow:
    from qw import definitions

    inside = files("qw") / "data" / "workflows.yaml"
    path = inside if inside.is_file() else Path(__file__).parents[2] / "workflows.yaml"
    return definitions.load(str(path)).workflows[name]


async def customer_tasks(client: Client, customer: str) -> list[CustomerTask]:
    """The newest thousand tasks of a customer and of the runs they belong to."""
    async with client.connection() as conn:
        return await workflows.of_customer(conn, customer, limit=MOST)


async def customer_counts(client: Client, customer: str) -> list[CustomerCounts]:
    """The same tasks, counted by run."""
    async with client.connection() as conn:
        return await workflows.customer_counts(conn, customer)


async def checked(client: Client, name: str, document: Json) -> Workflow:
    """The workflow in *document*, as one who may not choose programs may define it."""
    workflow = parse_workflow(name, document, lambda path: f"definition.{path}" if path else "definition")
    known = await client.types()
    faults = [
        Fault(
            path="definition",
            message=f"unknown type {type[:60]!r}; known are {', '.join(known)}{guess(type[:60], known)}",
        )
        for type in sorted(workflow.types.difference(known))
    ]
    if workflow.programs:
        message = f"step {workflow.programs[0]} names a program to run; apply such a workflow with: qw apply"
        faults.append(Fault(path="definition", message=message))
    if faults:
        raise Invalid(*faults)
    return workflow


def _unless_reserved(name: str) -> str:
    return _with_suffix(name) if name in SHIPPED else name


def _with_suffix(name: str) -> str:
    return f"{name[:110]}-{new_id().hex[-12:]}"


def _slug(title: str) -> str:
    """A name for a workflow called *title*: itself where it can be."""
    if _NAME.fullmatch(title):
        return title
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()[:100]).strip("-")
    return slug or f"workflow-{new_id().hex[-12:]}"
