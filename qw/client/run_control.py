"""What people do to runs that go on, and to those that are over: signal, approve, reject, retry; and look at them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from qw.client import Client
from qw.core.errors import Conflict, Invalid, NotFound
from qw.core.task.payload import Json, JsonObject, raise_faults, storable_faults
from qw.core.workflow import Workflow, check_input, parse_workflow
from qw.core.workflow.repair import to_redo
from qw.core.workflow.run import RETRY_TOLD, StepStatus, approval_name
from qw.core.workflow.step import StepKind
from qw.engine.advance import advance_new
from qw.engine.run_snapshot import state_of
from qw.store import runs
from qw.store.connection import Connection
from qw.store.runs import StoredRun, StoredSignal, StoredStep


@dataclass(frozen=True, kw_only=True)
class Detailed:
    """A run with all that is known of it: the definition it is pinned to, its steps as they began, what it was told."""

    run: StoredRun
    workflow: Workflow
    steps: list[StoredStep]
    signals: list[StoredSignal]


async def detailed(client: Client, run_id: UUID) -> Detailed:
    """Raise NotFound when there is no such run."""
    async with client.connection() as conn:
        return await _detailed(conn, run_id)


async def signal(client: Client, run_id: UUID, name: str, payload: Json = None, *, by: str | None = None) -> None:
    """Tell a run something that a step of type ``wait_signal`` waits for, or will wait for.

    Raise Conflict when the run is over.
    """
    raise_faults(storable_faults(payload, "payload"))
    raise_faults(storable_faults(by, "by"))
    async with client.connection() as conn:
        await runs.signal(conn, run_id, name, payload, sent_by=by)


async def approve(client: Client, run_id: UUID, step: str | None = None, *, by: str, comment: str = "") -> str:
    """Let the approval *step* succeed; the only one that waits, when none is named. Returns the step."""
    return await _decide(client, run_id, step, True, by, comment)


async def reject(client: Client, run_id: UUID, step: str | None = None, *, by: str, comment: str = "") -> str:
    """Let the approval *step* fail, and so the run, unless it bears that. Returns the step."""
    return await _decide(client, run_id, step, False, by, comment)


async def _decide(client: Client, run_id: UUID, step: str | None, approved: bool, by: str, comment: str) -> str:
    raise_faults(storable_faults([by, comment], "comment"))
    async with client.connection() as conn, conn.transaction():
        if await runs.lock(conn, run_id) is None:
            raise NotFound(f"run {run_id} does not exist")
        found = await _detailed(conn, run_id)
        step = _approval(found, step)
        payload: JsonObject = {"approved": approved, "comment": comment or None}
        await runs.tell(conn, run_id, approval_name(step), payload, sent_by=by)
    return step


def _approval(found: Detailed, step: str | None) -> str:
    """The approval that is meant and not decided yet."""
    if found.run.status.is_final:
        raise Conflict(f"run {found.run.id} is {found.run.status}; there is nothing to decide any more")
    ids = [id_ for id_, one in found.workflow.by_id.items() if one.kind is StepKind.APPROVAL]
    if step is not None and step not in ids:
        raise Invalid(f"{step[:60]!r} is not an approval of workflow {found.run.workflow}; there are: {_list(ids)}")
    status = {one.step: one.status for one in found.steps}
    decided = {one.name for one in found.signals if one.step is None}
    waiting = [id_ for id_ in ids if status.get(id_) is StepStatus.RUNNING and approval_name(id_) not in decided]
    if step is None:
        if len(waiting) != 1:
            raise Conflict(f"run {found.run.id} waits for {len(waiting)} approvals ({_list(waiting)}); name one")
        return waiting[0]
    if approval_name(step) in decided or status.get(step, StepStatus.PENDING).is_final:
        raise Conflict(f"approval {step} of run {found.run.id} is decided already")
    return step


def _list(ids: list[str]) -> str:
    return ", ".join(ids) or "none"


async def retry(
    client: Client,
    run_id: UUID,
    *,
    step: str | None = None,
    latest: bool = False,
    document: JsonObject | None = None,
    by: str | None = None,
) -> None:
    """Let a run that is over go on: from what failed, or from *step* again. What is finished and stands is kept.

    With the definition it started with; or the newest (*latest*); or *document*, which is for this run only. Its tasks
    exist when this returns. *by* is kept with what the run was told. Raise NotFound; Conflict when it is not over, or
    nothing failed; Invalid for a step or a definition that is none, or that cannot take the run's input.
    """
    raise_faults(storable_faults(by, "by"))
    async with client.connection() as conn, conn.transaction():
        version = await runs.lock(conn, run_id)
        if version is None:
            raise NotFound(f"run {run_id} does not exist")
        (run,) = await runs.get(conn, [run_id])
        if latest:
            version = await runs.newest_version(conn, run_id)
            if version is None:
                raise Conflict(f"workflow {run.workflow} is gone; there is no newer version of it")
        if document is not None:
            parse_workflow(run.workflow, document)
            version = await runs.keep_version(conn, run_id, document)
        workflow = parse_workflow(run.workflow, (await runs.documents(conn, [version]))[version])
        check_input(workflow, run.input)
        states = [state_of(one) for one in await runs.steps(conn, [run_id])]
        try:
            again = to_redo(workflow, run.status, states, step=step)
        except Conflict as conflict:
            raise Conflict(f"run {run_id}: {conflict}") from None
        await runs.reopen(conn, run_id, version=version, redo=again)
        told: JsonObject = {"step": step, "latest": latest, "edited": document is not None}
        await runs.tell(conn, run_id, RETRY_TOLD, told, sent_by=by)
        await advance_new(conn, run_id)


async def _detailed(conn: Connection, run_id: UUID) -> Detailed:
    found = await runs.get(conn, [run_id])
    if not found:
        raise NotFound(f"run {run_id} does not exist")
    (run,) = found
    document = (await runs.documents(conn, [run.version]))[run.version]
    return Detailed(
        run=run,
        workflow=parse_workflow(run.workflow, document),
        steps=await runs.steps(conn, [run_id]),
        signals=await runs.signals(conn, run_id),
    )


__all__ = ["Detailed", "approve", "detailed", "reject", "retry", "signal"]
