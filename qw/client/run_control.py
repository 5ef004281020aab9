"""What people do to runs that go on, and to those that are over: signal, approve, reject, retry; and look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from qw.client import Client
from qw.core.errors import Conflict, Invalid, NotFound
from qw.core.task.payload import Json, JsonObject, raise_faults, storable_faults
from qw.core.workflow import Workflow, check_input, parse_workflow
from qw.core.workflow.repair import Redo, failed_compensation, to_redo
from qw.core.workflow.run import DONE_BY_HAND_TOLD, RETRY_TOLD, StepState, StepStatus, approval_name, compensation_id
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
    async with client.operating() as conn:
        await runs.signal(conn, run_id, name, payload, sent_by=by)


async def approve(client: Client, run_id: UUID, step: str | None = None, *, by: str, comment: str = "") -> str:
    """Let the approval *step* succeed; the only one that waits, when none is named. Returns the step."""
    return await _decide(client, run_id, step, True, by, comment)


async def reject(client: Client, run_id: UUID, step: str | None = None, *, by: str, comment: str = "") -> str:
    """Let the approval *step* fail, and so the run, unless it bears that. Returns the step."""
    return await _decide(client, run_id, step, False, by, comment)


async def _decide(client: Client, run_id: UUID, step: str | None, approved: bool, by: str, comment: str) -> str:
    raise_faults(storable_faults([by, comment], "comment"))
    async with client.operating() as conn, conn.transaction():
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
    """Let a run that is over go on: from what failed, or from *step* again. What is finished and not undone is kept.

    Where *step* is a compensation that failed, that one is tried again, and the run stays one that was undone.
    With the definition it started with; or the newest (*latest*); or *document*, which is for this run only. Its tasks
    exist when this returns. *by* is kept with what the run was told. Raise NotFound; Conflict when it is not over, or
    nothing failed; Invalid for a step or a definition that is none, or that cannot take the run's input.
    """
    raise_faults(storable_faults(by, "by"))
    async with client.operating() as conn, conn.transaction():
        await _retry(conn, run_id, step=step, latest=latest, document=document, by=by)


async def _retry(
    conn: Connection, run_id: UUID, *, step: str | None, latest: bool, document: JsonObject | None, by: str | None
) -> None:
    """Let a run go on, and below it the runs that its failed steps started. The run above is locked first."""
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
    undone = await runs.undone_tasks(conn, run_id)
    try:
        again = to_redo(workflow, run.status, states, step=step, undone=undone)
        _check_below(again, states)
    except Conflict as conflict:
        raise Conflict(f"run {run_id}: {conflict}") from None
    children = await runs.failed_children(conn, run_id, sorted(again.going_on))
    for _, child in sorted(children, key=lambda pair: pair[1]):
        await _retry(conn, child, step=None, latest=latest, document=None, by=by)
    going_on = sorted({below for below, _ in children})
    await runs.reopen(conn, run_id, version=version, redo=again, undone=undone, going_on=going_on)
    told: JsonObject = {"step": step, "latest": latest, "edited": document is not None}
    await runs.tell(conn, run_id, RETRY_TOLD, told, sent_by=by)
    await advance_new(conn, run_id)


def _check_below(again: Redo, states: Sequence[StepState]) -> None:
    """A compensation that undoes other runs is retried by retrying those that could not be undone."""
    for state in states:
        if again.is_back and state.step_id in again.steps and (state.child or state.items):
            what = f"run {state.child}" if state.child else "runs"
            raise Conflict(f"{state.step_id} undoes {what}: retry the compensations that failed there")


async def compensation_done(client: Client, run_id: UUID, step: str, *, by: str, comment: str = "") -> str:
    """Let a compensation that failed count as done, since somebody has undone the step by hand. Returns its id.

    The run goes on as if it had succeeded. Raise NotFound; Conflict when it has not failed; Invalid when it is none.
    """
    raise_faults(storable_faults([by, comment], "comment"))
    async with client.operating() as conn, conn.transaction():
        if await runs.lock(conn, run_id) is None:
            raise NotFound(f"run {run_id} does not exist")
        found = await _detailed(conn, run_id)
        if not found.run.status.is_final:
            raise Conflict(f"run {run_id} is {found.run.status}: its compensations are still at work")
        states = {one.step: state_of(one) for one in found.steps}
        try:
            id_ = failed_compensation(found.workflow, states, step).step_id
        except Conflict as conflict:
            raise Conflict(f"run {run_id}: {conflict}") from None
        result: JsonObject = {"byHand": True, "by": by, "comment": comment or None}
        await runs.done_by_hand(conn, run_id, id_, result)
        of = id_.removeprefix(compensation_id("")) if id_ not in found.workflow.by_id else "*"
        await runs.tell(
            conn, run_id, DONE_BY_HAND_TOLD, {"step": id_, "of": of, "comment": comment or None}, sent_by=by
        )
        await advance_new(conn, run_id)
    return id_


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


__all__ = ["Detailed", "approve", "compensation_done", "detailed", "reject", "retry", "signal"]
