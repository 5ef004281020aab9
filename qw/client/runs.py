"""`Client.runs`: start, inspect, signal, approve, cancel and retry workflow runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from qw.client.acting import audited
from qw.client.connections import Namespace, check_limit
from qw.client.run_timeline import TimelineStep, read_timeline
from qw.client.run_tree import ShownRun, read_tree
from qw.client.waiting import Poll
from qw.client.workflows import Workflows
from qw.core.errors import Conflict, Invalid, NotFound
from qw.core.task.payload import Json, JsonObject, raise_faults, storable_faults
from qw.core.workflow import Workflow, check_input, parse_workflow
from qw.core.workflow.repair import Redo, failed_compensation, to_redo
from qw.core.workflow.run import (
    DONE_BY_HAND_SIGNAL,
    RETRY_SIGNAL,
    RunStatus,
    StepState,
    StepStatus,
    approval_name,
    compensation_id,
)
from qw.core.workflow.step import StepKind
from qw.engine.advance import advance_new
from qw.engine.parsed_workflows import known_workflow, workflow_of
from qw.engine.start import start_run
from qw.store import runs
from qw.store.connection import Connection
from qw.store.ids import new_id
from qw.store.runs import StoredRun, StoredSignal
from qw.store.tasks import LAST_ID

MOST = 1000  # maximum runs in one answer


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """A run with its steps, in start order."""

    run: StoredRun
    steps: list[StepState]


@dataclass(frozen=True, kw_only=True)
class InspectedRun(RunDetails):
    """A run with its steps, its pinned definition, and the signals, decisions, retries and cancels sent to it."""

    workflow: Workflow
    signals: list[StoredSignal]


@dataclass(frozen=True, kw_only=True)
class RetryPreview:
    """The steps that a retry would repeat, and those whose results it would keep."""

    again: list[str]
    kept: list[str]


class Runs(Namespace):
    """Starts, reads and changes runs. Signals, decisions, cancels and repairs are recorded together with *by*."""

    # -- start and read

    async def start(
        self,
        name: str,
        input: JsonObject | None = None,
        *,
        run_at: datetime | None = None,
        filed_under: UUID | None = None,
        id: UUID | None = None,
        idempotency_key: str | None = None,
    ) -> UUID:
        """Start a run of the newest version of workflow *name* and return its id. Its first tasks are then committed.

        Idempotent by *id* or *idempotency_key*; raise Conflict if either was used with another workflow or input.

        The first tasks wait until *run_at*. *filed_under*: id of another workflow to list the run under.
        Raise NotFound for an unknown workflow, Invalid for input that does not fit its declaration.
        """
        async with self._db.connection() as conn, conn.transaction():
            return await start_run(
                conn,
                id or new_id(),
                name,
                {} if input is None else input,
                run_at=run_at,
                filed_under=filed_under,
                idempotency_key=idempotency_key,
            )

    async def start_filed(
        self, workflow_id: UUID, input: JsonObject | None = None, *, idempotency_key: str | None = None
    ) -> UUID:
        """Start a run of a workflow given by id. Raise NotFound, or Conflict if it is not active."""
        stored = await Workflows(self._db).by_id(workflow_id)
        if not stored.is_active:
            raise Conflict("Cannot start inactive workflow")
        return await self.start(stored.name, input, idempotency_key=idempotency_key)

    async def start_shipped(
        self,
        name: str,
        input: JsonObject,
        *,
        run_at: datetime | None = None,
        filed_under: UUID | None = None,
        idempotency_key: str | None = None,
    ) -> UUID:
        """Start a run of a workflow that ships with qw; store the workflow first if it is missing."""
        await Workflows(self._db).save_shipped(name)
        return await self.start(name, input, run_at=run_at, filed_under=filed_under, idempotency_key=idempotency_key)

    async def get(self, id: UUID) -> RunDetails:
        """Return a run with its steps. Raise NotFound."""
        async with self._db.connection() as conn:
            stored = await runs.get(conn, [id])
            if not stored:
                raise NotFound(f"run {id} does not exist")
            return RunDetails(run=stored[0], steps=(await runs.steps(conn, [id]))[id])

    async def resolve(self, text: str, *, path: str = "id") -> UUID:
        """Return the id of the only run whose id starts with *text* (at least four hexadecimal digits)."""
        from qw.client.short_ids import IdKind, resolve

        return await resolve(self._db, text, IdKind.RUN, path=path)

    async def workflow_names(self, ids: Collection[UUID]) -> dict[UUID, str]:
        """Return the workflow name of each run, by run id."""
        async with self._db.connection() as conn:
            return await runs.workflow_names(conn, ids)

    async def find(
        self,
        *,
        workflow: str | None = None,
        status: RunStatus | None = None,
        limit: int = 100,
        before: UUID = LAST_ID,
    ) -> list[StoredRun]:
        """Return matching runs, newest first, at most 1,000. For the next page pass the last id as *before*."""
        check_limit(limit, MOST)
        async with self._db.connection() as conn:
            ids = await runs.find(conn, workflow=workflow, status=status, limit=limit, before=before)
            return await runs.get(conn, ids)

    async def wait(self, id: UUID, *, timeout: timedelta | None = None) -> RunDetails:
        """Wait until the run is final and return it. Raise NotFound, or TimedOut after *timeout* (None: no limit)."""
        wait = Poll(timeout)
        while not (run := await self.get(id)).run.status.is_final:
            await wait.pause(f"run {id} is {run.run.status}")
        return run

    async def tree(self, id: UUID) -> ShownRun:
        """Return a run with its steps and child runs. Raise NotFound."""
        async with self._db.snapshot() as conn:
            return await read_tree(conn, id)

    async def inspect(self, id: UUID) -> InspectedRun:
        """Return a run with its definition, signals and decisions. Raise NotFound."""
        async with self._db.connection() as conn:
            return await _inspect(conn, id)

    async def timeline(self, id: UUID) -> tuple[StoredRun, list[TimelineStep]]:
        """Return a run, and its steps with their attempts, including steps that have not started. Raise NotFound."""
        async with self._db.snapshot() as conn:
            inspected = await _inspect(conn, id)
            return inspected.run, await read_timeline(conn, inspected.workflow, inspected.steps)

    async def retry_preview(self, id: UUID, step: str | None = None) -> RetryPreview:
        """Return what `retry` would repeat with the run's current definition. Raise NotFound, Conflict or Invalid."""
        async with self._db.snapshot() as conn:
            inspected = await _inspect(conn, id)
            undone = await runs.undone_tasks(conn, id)
            again = _redo(inspected.run, inspected.workflow, inspected.steps, step=step, undone=undone)
        declared = [declared_step.id for declared_step in inspected.workflow.steps]
        order = [*declared, *(state.step_id for state in inspected.steps if state.step_id not in set(declared))]
        kept = {state.step_id for state in inspected.steps if state.status is StepStatus.COMPLETED} - again.steps
        return RetryPreview(
            again=[id_ for id_ in order if id_ in again.steps], kept=[id_ for id_ in declared if id_ in kept]
        )

    # -- signal, approve, cancel

    @audited("workflow cancel")
    async def cancel(self, id: UUID, *, by: str | None = None) -> None:
        """Request cancellation of a run: no further step starts, and running steps are asked to stop."""
        async with self._db.operating() as conn:
            if not await runs.cancel(conn, id, by=by):
                status = (await _inspect(conn, id)).run.status
                raise Conflict(f"run {id} is {status}; only a run in progress can be cancelled")

    @audited("workflow signal")
    async def signal(self, id: UUID, name: str, payload: Json = None, *, by: str | None = None) -> None:
        """Send a signal to a run, for a step of type ``wait_signal`` that waits for it now or later.

        Raise NotFound, or Conflict if the run is final.
        """
        raise_faults(storable_faults(payload, "payload"))
        raise_faults(storable_faults(by, "by"))
        async with self._db.operating() as conn:
            await runs.signal(conn, id, name, payload, sent_by=by)

    @audited("workflow approve")
    async def approve(self, id: UUID, step: str | None = None, *, by: str, comment: str = "") -> str:
        """Approve *step* (None: the only pending approval). Return its id. Raise NotFound, Conflict or Invalid."""
        return await self._decide(id, step, True, by, comment)

    @audited("workflow reject")
    async def reject(self, id: UUID, step: str | None = None, *, by: str, comment: str = "") -> str:
        """Reject the approval *step*: it fails, and the run too unless ``continue_on_error``. Return its id."""
        return await self._decide(id, step, False, by, comment)

    async def _decide(self, id: UUID, step: str | None, approved: bool, by: str, comment: str) -> str:
        raise_faults(storable_faults([by, comment], "comment"))
        async with self._db.operating() as conn, conn.transaction():
            if await runs.lock(conn, id) is None:
                raise NotFound(f"run {id} does not exist")
            inspected = await _inspect(conn, id)
            step = _approval(inspected, step)
            payload: JsonObject = {"approved": approved, "comment": comment or None}
            await runs.record_decision(conn, id, approval_name(step), payload, sent_by=by)
        return step

    # -- repair

    @audited("workflow retry")
    async def retry(
        self,
        id: UUID,
        *,
        step: str | None = None,
        latest: bool = False,
        document: JsonObject | None = None,
        by: str | None = None,
    ) -> None:
        """Retry a final run from its failed steps, or from *step*. Completed steps that were not compensated are kept.

        If *step* is a failed compensation, that compensation is retried and the run stays compensated. The run keeps
        its definition, or takes the newest (*latest*), or *document*, for this run only. The new tasks are committed
        on return. Raise NotFound; Conflict if the run is not final or nothing failed; Invalid for an unknown step, or
        a definition that is invalid or does not accept the run's input.
        """
        raise_faults(storable_faults(by, "by"))
        async with self._db.operating() as conn, conn.transaction():
            await _retry(conn, id, step=step, latest=latest, document=document, by=by)

    @audited("workflow compensation-done")
    async def mark_compensated(self, id: UUID, step: str, *, by: str, comment: str = "") -> str:
        """Mark a failed compensation as completed, because the step was undone by hand. Return the compensation's id.

        The run continues as if the compensation had succeeded. Raise NotFound; Conflict if the compensation has not
        failed; Invalid if *step* is not a compensation.
        """
        raise_faults(storable_faults([by, comment], "comment"))
        async with self._db.operating() as conn, conn.transaction():
            if await runs.lock(conn, id) is None:
                raise NotFound(f"run {id} does not exist")
            inspected = await _inspect(conn, id)
            if not inspected.run.status.is_final:
                raise Conflict(f"run {id} is {inspected.run.status}: its compensations are still running")
            states = {state.step_id: state for state in inspected.steps}
            try:
                id_ = failed_compensation(inspected.workflow, states, step).step_id
            except Conflict as conflict:
                raise Conflict(f"run {id}: {conflict}") from None
            result: JsonObject = {"byHand": True, "by": by, "comment": comment or None}
            await runs.done_by_hand(conn, id, id_, result)
            of = id_.removeprefix(compensation_id("")) if id_ not in inspected.workflow.by_id else "*"
            await runs.record_decision(
                conn, id, DONE_BY_HAND_SIGNAL, {"step": id_, "of": of, "comment": comment or None}, sent_by=by
            )
            await advance_new(conn, id)
        return id_


def _approval(inspected: InspectedRun, step: str | None) -> str:
    """Return the id of the undecided approval *step*; None: of the only one."""
    if inspected.run.status.is_final:
        raise Conflict(f"run {inspected.run.id} is {inspected.run.status}; there is nothing left to approve or reject")
    ids = [id_ for id_, declared in inspected.workflow.by_id.items() if declared.kind is StepKind.APPROVAL]
    if step is not None and step not in ids:
        raise Invalid(f"{step[:60]!r} is not an approval of workflow {inspected.run.workflow}; there are: {_list(ids)}")
    status = {state.step_id: state.status for state in inspected.steps}
    decided = {signal.name for signal in inspected.signals if signal.step is None}
    waiting = [id_ for id_ in ids if status.get(id_) is StepStatus.RUNNING and approval_name(id_) not in decided]
    if step is None:
        if not waiting:
            raise Conflict(f"no step of run {inspected.run.id} is waiting for an approval")
        if len(waiting) != 1:
            raise Conflict(
                f"run {inspected.run.id} is waiting for {len(waiting)} approvals ({_list(waiting)}); name one"
            )
        return waiting[0]
    if approval_name(step) in decided or status.get(step, StepStatus.PENDING).is_final:
        raise Conflict(f"approval {step} of run {inspected.run.id} has already been decided")
    return step


def _list(ids: list[str]) -> str:
    return ", ".join(ids) or "none"


async def _retry(
    conn: Connection, run_id: UUID, *, step: str | None, latest: bool, document: JsonObject | None, by: str | None
) -> None:
    """Retry a run and the child runs of its failed steps. The parent run is locked first."""
    version = await runs.lock(conn, run_id)
    if version is None:
        raise NotFound(f"run {run_id} does not exist")
    (run,) = await runs.get(conn, [run_id])
    if latest:
        version = await runs.newest_version(conn, run_id)
        if version is None:
            raise Conflict(f"workflow {run.workflow} was removed; there is no newer version")
    if document is not None:
        parse_workflow(run.workflow, document)
        version = await runs.save_version(conn, run_id, document)
    workflow = parse_workflow(run.workflow, (await runs.documents(conn, [version]))[version])
    check_input(workflow, run.input)
    states = (await runs.steps(conn, [run_id]))[run_id]
    undone = await runs.undone_tasks(conn, run_id)
    again = _redo(run, workflow, states, step=step, undone=undone)
    children = await runs.failed_children(conn, run_id, sorted(again.going_on))
    for _, child in sorted(children, key=lambda pair: pair[1]):
        await _retry(conn, child, step=None, latest=latest, document=None, by=by)
    going_on = sorted({below for below, _ in children})
    await runs.reopen(conn, run_id, version=version, redo=again, undone=undone, going_on=going_on)
    options: JsonObject = {"step": step, "latest": latest, "edited": document is not None}
    await runs.record_decision(conn, run_id, RETRY_SIGNAL, options, sent_by=by)
    await advance_new(conn, run_id)


def _redo(
    run: StoredRun, workflow: Workflow, states: Sequence[StepState], *, step: str | None, undone: Collection[UUID]
) -> Redo:
    try:
        again = to_redo(workflow, run.status, states, step=step, undone=undone)
        _check_below(again, states)
    except Conflict as conflict:
        raise Conflict(f"run {run.id}: {conflict}") from None
    return again


def _check_below(again: Redo, states: Sequence[StepState]) -> None:
    """Raise Conflict for a compensation that undoes child runs: these are to be retried instead."""
    for state in states:
        if again.is_back and state.step_id in again.steps and (state.child_id or state.items):
            what = f"run {state.child_id}" if state.child_id else "runs"
            raise Conflict(f"{state.step_id} undoes {what}: retry the failed compensations there")


async def _inspect(conn: Connection, run_id: UUID) -> InspectedRun:
    stored = await runs.get(conn, [run_id])
    if not stored:
        raise NotFound(f"run {run_id} does not exist")
    (run,) = stored
    return InspectedRun(
        run=run,
        workflow=known_workflow(run) or workflow_of(run, (await runs.documents(conn, [run.version]))[run.version]),
        steps=(await runs.steps(conn, [run_id]))[run_id],
        signals=await runs.signals(conn, run_id),
    )
