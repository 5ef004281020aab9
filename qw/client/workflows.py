"""`Client.workflows`: workflow definitions, by name (files) or by id and title (HTTP API)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from uuid import UUID

from qw.client.acting import audited
from qw.client.connections import Namespace, check_limit
from qw.core.errors import Fault, Invalid, NotFound, among, guess
from qw.core.task import Status, Task, key_faults
from qw.core.task.payload import Json, raise_faults
from qw.core.workflow import Workflow, parse_workflow
from qw.store import runs, tasks, types, workflows
from qw.store.ids import new_id
from qw.store.runs import StoredWorkflow
from qw.store.tasks import LAST_ID, Filter
from qw.store.workflows import FiledWorkflow

COUNTED = 10_000  # counts are exact up to this number

MOST = 1000  # maximum workflows per page, and tasks shown with a workflow

SHIPPED = ("invoice",)  # stored on first use, so these names are reserved

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class WorkflowProgress:
    """Tasks of a workflow by status, exact to 10,000. ``to_come``: steps of open runs that have no task yet."""

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


class Workflows(Namespace):
    """Reads and changes workflow definitions. To start runs see `Client.runs`."""

    # -- by name

    async def save(self, workflow: Workflow) -> None:
        """Store a definition as the newest version; existing runs keep their version."""
        async with self._db.operating() as conn:
            await runs.save_workflow(conn, workflow.name, workflow.document)

    async def all(self) -> list[StoredWorkflow]:
        """Return all stored workflows, in name order."""
        async with self._db.connection() as conn:
            return await runs.workflows(conn)

    async def get(self, name: str) -> StoredWorkflow:
        """Return the newest version of a workflow. Raise NotFound."""
        async with self._db.connection() as conn:
            stored = await runs.workflows(conn, name)
            known = [] if stored else [workflow.name for workflow in await runs.workflows(conn)]
        if not stored:
            raise NotFound(f"there is no workflow {name!r}{among(name, known)}")
        return stored[0]

    # -- by id

    async def find(
        self, *, is_active: bool | None = None, before: UUID = LAST_ID, limit: int = MOST
    ) -> list[FiledWorkflow]:
        """Return workflows, newest first, at most 1,000. For the next page pass the last id as *before*."""
        check_limit(limit, MOST)
        async with self._db.connection() as conn:
            return await workflows.find(conn, is_active=is_active, before=before, limit=limit)

    async def count(self, *, is_active: bool | None = None) -> int:
        async with self._db.connection() as conn:
            return await workflows.count(conn, is_active=is_active)

    async def by_ids(self, ids: Collection[UUID]) -> dict[UUID, FiledWorkflow]:
        """Return the existing workflows among *ids*, by id."""
        if not ids:
            return {}
        async with self._db.connection() as conn:
            return {workflow.id: workflow for workflow in await workflows.find(conn, ids=list(ids), limit=len(ids))}

    async def by_id(self, id: UUID) -> FiledWorkflow:
        """Return a workflow by id. Raise NotFound."""
        async with self._db.connection() as conn:
            return _only(await workflows.find(conn, ids=[id]), id)

    @audited("workflow create")
    async def create(
        self, title: str, document: Json, *, is_active: bool = True, idempotency_key: str | None = None
    ) -> FiledWorkflow:
        """Store a workflow under a name derived from *title*; titles may repeat. Raise Invalid with every fault.

        Idempotent by *idempotency_key*.
        """
        raise_faults(iter(key_faults("idempotency_key", idempotency_key)))
        workflow = await self.check(_slug(title), document)
        id = new_id()
        async with self._db.operating() as conn, conn.transaction():
            if idempotency_key is not None:
                holder = await runs.take_key(conn, idempotency_key, id, f"workflow {title}", workflow.document)
                if holder != id:
                    return _only(await workflows.find(conn, ids=[holder]), holder)
            name = _unless_reserved(workflow.name)
            while not await workflows.create(conn, id, name=name, title=title, is_active=is_active):
                name = _with_suffix(workflow.name)
            await runs.save_workflow(conn, name, workflow.document)
        return await self.by_id(id)

    @audited("workflow update")
    async def update(
        self, id: UUID, *, title: str | None = None, document: Json = None, is_active: bool | None = None
    ) -> FiledWorkflow:
        """Update the fields that are not None. A new document is a new version; existing runs keep their version."""
        stored = await self.by_id(id)
        workflow = None if document is None else await self.check(stored.name, document)
        async with self._db.operating() as conn, conn.transaction():
            name = await workflows.update(conn, id, title=title, is_active=is_active)
            if name and workflow:
                await runs.save_workflow(conn, name, workflow.document)
        return await self.by_id(id)

    @audited("workflow delete")
    async def delete(self, id: UUID) -> None:
        """Delete a workflow; its runs continue. Raise NotFound."""
        async with self._db.operating() as conn:
            if not await workflows.delete(conn, id):
                raise NotFound(f"Workflow with ID {id} not found")

    async def progress(self, id: UUID) -> WorkflowProgress:
        """Return the progress of the runs of a workflow, with its newest 1,000 tasks. Raise NotFound."""
        stored = await self.by_id(id)
        async with self._db.snapshot() as conn:
            counts = {
                status: await workflows.count_tasks(conn, id, Filter(status=status), limit=COUNTED) for status in Status
            }
            open_runs = await workflows.open_runs(conn, id)
            documents = await runs.documents(conn, sorted({run.version for run in open_runs}))
            newest = await tasks.get(conn, await workflows.find_tasks(conn, id, Filter(), limit=MOST))
        sizes = {version: len(parse_workflow(stored.name, document).steps) for version, document in documents.items()}
        return WorkflowProgress(
            workflow=stored,
            counts=counts,
            open_runs=len(open_runs),
            to_come=sum(max(sizes[run.version] - run.begun, 0) for run in open_runs),
            tasks=newest,
        )

    async def save_shipped(self, name: str) -> None:
        """Store a workflow that ships with qw if it is missing."""
        async with self._db.connection() as conn:
            is_stored = bool(await runs.workflows(conn, name))
            if not is_stored:
                workflow = _shipped(name)
                await runs.save_workflow(conn, workflow.name, workflow.document)

    async def check(self, name: str, document: Json) -> Workflow:
        """Parse a workflow from an untrusted client. Raise Invalid for unknown types and steps that run programs."""
        workflow = parse_workflow(name, document, lambda path: f"definition.{path}" if path else "definition")
        async with self._db.connection() as conn:
            known = await types.names(conn)
        faults = [
            Fault(
                path="definition",
                message=f"unknown type {type[:60]!r}; known are {', '.join(known)}{guess(type[:60], known)}",
            )
            for type in sorted(workflow.types.difference(known))
        ]
        if workflow.programs:
            message = f"step {workflow.programs[0]} runs a program, which HTTP does not accept; use: qw apply"
            faults.append(Fault(path="definition", message=message))
        if faults:
            raise Invalid(*faults)
        return workflow


def _only(filed: Sequence[FiledWorkflow], id: UUID) -> FiledWorkflow:
    if not filed:
        raise NotFound(f"Workflow with ID {id} not found")
    return filed[0]


def _shipped(name: str) -> Workflow:
    from qw import definitions

    inside = files("qw") / "data" / "workflows.yaml"
    path = inside if inside.is_file() else Path(__file__).parents[2] / "workflows.yaml"
    return definitions.load(str(path)).workflows[name]


def _unless_reserved(name: str) -> str:
    return _with_suffix(name) if name in SHIPPED else name


def _with_suffix(name: str) -> str:
    return f"{name[:110]}-{new_id().hex[-12:]}"


def _slug(title: str) -> str:
    """Return a name for a workflow titled *title*: the title itself if it is a valid name."""
    if _NAME.fullmatch(title):
        return title
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()[:100]).strip("-")
    return slug or f"workflow-{new_id().hex[-12:]}"
