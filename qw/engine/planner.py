"""Converts the stored state of a run into the input of `plan`, and its actions into rows. No I/O."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from qw.core.task import Lane, NewTask, check_new
from qw.core.task.payload import clean_error
from qw.core.workflow.plan import plan
from qw.core.workflow.run import (
    QUEUED,
    Accept,
    Action,
    Again,
    Cancel,
    End,
    Expand,
    Fail,
    Finish,
    Gather,
    Hold,
    Launch,
    Mark,
    Pause,
    RunStatus,
    Skip,
    Start,
    StartRun,
    StepState,
    StepStatus,
    UndoRun,
    UndoRuns,
    Wait,
)
from qw.core.workflow.step import StepKind
from qw.engine.run_snapshot import Case, row_of
from qw.store.advances import OutgoingMessage, RunRow, StepRow
from qw.store.ids import new_id
from qw.store.runs import StoredRun

log = logging.getLogger(__name__)

Later: TypeAlias = Expand | Launch | Gather | StartRun | UndoRuns | Cancel | Hold

ENVIRONMENT = "QW_ENV_"  # prefix of the daemon's variables that expressions may read as env.NAME


@dataclass(kw_only=True)
class RunChanges:
    """The changes to store for a batch of runs. ``later``: actions that must query the database first.

    ``repeated``: completed tasks to run again. ``cancels``: tasks to stop, with the reason. ``told``: messages to
    inboxes. ``places``: by run, the position of the step that ended last. ``lanes``: the lanes that got repeated
    tasks.
    """

    steps: dict[tuple[UUID, str], StepRow] = field(default_factory=dict)
    tasks: list[NewTask] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    runs: list[RunRow] = field(default_factory=list)
    cancels: dict[UUID, str] = field(default_factory=dict)
    told: list[OutgoingMessage] = field(default_factory=list)
    places: dict[UUID, int] = field(default_factory=dict)
    signals: list[tuple[int, str]] = field(default_factory=list)
    later: list[tuple[Case, Later]] = field(default_factory=list)
    lanes: set[Lane] = field(default_factory=set)

    def __iadd__(self, other: RunChanges) -> RunChanges:
        self.steps |= other.steps
        self.places |= other.places
        self.cancels |= other.cancels
        for name in ("tasks", "repeated", "runs", "told", "signals", "later"):
            getattr(self, name).extend(getattr(other, name))
        return self

    def next_place(self, run: UUID) -> int:
        self.places[run] += 1
        return self.places[run]


def decide(case: Case, env: Mapping[str, str]) -> RunChanges:
    """Plan the next actions of a run. Never raises: a run that cannot be planned fails."""
    run = case.run
    if run.status.is_final and ("undo" not in case.asks or run.status is RunStatus.FAILED):
        return RunChanges(told=[OutgoingMessage(run.parent_id)] if "undo" in case.asks and run.parent_id else [])
    try:
        actions = plan(case.workflow, case.value, case.states, env=env, now=case.run.read_at)
        return _Rows(case).decision(actions)
    except Exception as error:
        log.exception("run cannot be planned", extra={"run": str(case.run.id), "workflow": case.run.workflow})
        return RunChanges(runs=[failed(case.run, f"cannot be planned: {error}")])


def environment() -> dict[str, str]:
    """Return the values of ``env.…``. Call once per pass, because it reads all environment variables."""
    return {name.removeprefix(ENVIRONMENT): v for name, v in os.environ.items() if name.startswith(ENVIRONMENT)}


def failed(run: StoredRun, error: str) -> RunRow:
    return RunRow(
        id=run.id,
        status=RunStatus.FAILED,
        detail=None,
        error=clean_error(error),
        cancel_asked=run.cancel_asked,
        deadline=run.deadline,
    )


def states_after(case: Case, decision: RunChanges) -> list[StepState]:
    """Return the states of the steps after *decision* is stored."""
    rows = {row.step: row for row in decision.steps.values() if row.run_id == case.run.id}
    return [
        *(state for state in case.states if state.step_id not in rows or state.step_id in case.ended),
        *(
            StepState(
                step_id=row.step,
                status=row.status,
                task_id=row.task_id,
                result=row.result,
                error=row.error,
                error_kind=row.error_kind,
            )
            for row in rows.values()
            if row.step not in case.ended
        ),
    ]


def task_of(run: StoredRun, start: Start, *, item: int | None = None) -> NewTask:
    """Return the task for *start*. Raise Invalid if it cannot be stored."""
    task = NewTask(
        id=new_id(),
        type=start.type,
        payload=start.payload,
        **start.settings(),
        backoff=start.backoff,
        run_id=run.id,
        step=start.step_id if item is None else f"{start.step_id}[{item}]",
        parent_id=start.compensates,
    )
    check_new(task)
    return task


class _Rows:
    """Collects the rows that the actions for one run produce."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._run = case.run
        self._stored = {step.step_id: step for step in case.steps}
        self._decision = RunChanges(
            steps={(case.run.id, name): row_of(case.run.id, step) for name, step in case.ended.items()},
            places={case.run.id: max((state.finished for state in case.states), default=0)},
        )

    def decision(self, actions: Sequence[Action]) -> RunChanges:
        for action in actions:
            self._add(action)
        row = self._state(actions)
        if _differs(row, self._run):
            self._decision.runs.append(row)
        return self._decision

    def _add(self, action: Action) -> None:
        decision = self._decision
        match action:
            case Start():
                task = task_of(self._run, action)
                decision.tasks.append(task)
                step = self._case.workflow.by_id.get(action.step_id)
                rounds = 1 if step and step.repeat else None
                self._put(action.step_id, type=action.type, task_id=task.id, rounds=rounds)
            case Wait(step_id=id_, until=until):
                self._put(id_, due=until, result=action.shown)
                decision.told += [OutgoingMessage(self._run.id, at=until)] if until else []
            case Pause(step_id=id_, until=until):
                self._put(id_, due=until)
                decision.told.append(OutgoingMessage(self._run.id, at=until))
            case Again(step_id=id_, task_id=task_id, round=round_):
                self._put(id_, rounds=round_, due=None)
                decision.repeated.append(task_id)
            case Accept(step_id=id_):
                self._end(id_, StepStatus.COMPLETED)
            case UndoRun(step_id=id_, child=child):
                self._put(id_, type=StepKind.WORKFLOW.value, child_id=child)
                decision.told.append(OutgoingMessage(child, "undo"))
            case UndoRuns(step_id=id_):
                self._put(id_, type=StepKind.WORKFLOW.value, items=0)
                decision.later.append((self._case, action))
            case Skip(step_id=id_, reason=reason):
                self._end(id_, StepStatus.SKIPPED, error=clean_error(reason))
            case Fail(step_id=id_, error=error, error_kind=kind):
                self._end(id_, StepStatus.FAILED, error=clean_error(error), error_kind=kind)
            case End():
                ended = {"error": _clean(action.error), "error_kind": action.error_kind}
                self._end(action.step_id, action.status, result=action.result, **ended)
                decision.signals += [(signal, action.step_id) for signal in action.signals]
            case Cancel():
                self._cancel(action)
            case Expand(step_id=id_, items=items):
                self._put(id_, items=len(items))
                decision.later.append((self._case, action))
            case Launch() | Gather() | StartRun() | Hold():
                decision.later.append((self._case, action))

    def _cancel(self, cancel: Cancel) -> None:
        self._put(cancel.step_id, cancel_asked=True)
        row = self._decision.steps[self._run.id, cancel.step_id]
        if row.task_id:
            self._decision.cancels[row.task_id] = cancel.reason
        elif row.child_id:
            self._decision.told.append(OutgoingMessage(row.child_id, "cancel"))
        else:
            self._decision.later.append((self._case, cancel))

    def _put(self, step_id: str, **fields: object) -> None:
        row = self._decision.steps.get((self._run.id, step_id))
        if row is None and step_id in self._stored:
            row = row_of(self._run.id, self._stored[step_id])
        if row is None:
            new: dict[str, Any] = {"type": self._type(step_id), "status": StepStatus.RUNNING, **fields}
            self._decision.steps[self._run.id, step_id] = StepRow(run_id=self._run.id, step=step_id, **new)
        else:
            self._decision.steps[self._run.id, step_id] = row._replace(**fields)  # type: ignore[arg-type]

    def _end(self, step_id: str, status: StepStatus, **fields: object) -> None:
        self._put(step_id, status=status, finished=self._decision.next_place(self._run.id), **fields)

    def _type(self, step_id: str) -> str:
        step = self._case.workflow.by_id.get(step_id)
        return step.work.type if step else "compensation"

    def _state(self, actions: Sequence[Action]) -> RunRow:
        run, value = self._run, self._case.value
        held = run.status is RunStatus.PENDING and (
            any(isinstance(action, Hold) for action in actions) or (run.detail == QUEUED and not actions)
        )
        if held:
            row = RunRow(
                id=run.id, status=RunStatus.PENDING, detail=QUEUED, error=None, cancel_asked=value.cancel_asked
            )
            return replace(row, output=run.output, deadline=run.deadline)
        row = RunRow(
            id=run.id,
            status=RunStatus.RUNNING,
            detail=None if run.detail == QUEUED else run.detail,
            error=run.error,
            error_kind=run.error_kind,
            output=run.output,
            cancel_asked=value.cancel_asked,
            deadline=self._deadline(),
        )
        for action in actions:
            if isinstance(action, Mark):
                row = replace(row, detail=action.detail, error=_clean(action.error), error_kind=action.error_kind)
            elif isinstance(action, Finish):
                row = replace(row, status=action.status, detail=action.detail, error=_clean(action.error))
                row = replace(row, error_kind=action.error_kind, output=action.output)
        return row

    def _deadline(self) -> datetime | None:
        """Return the deadline of the run, counted from when it leaves the queue, but no later than its step allows."""
        run, timeout = self._run, self._case.workflow.timeout
        if not timeout or run.status is not RunStatus.PENDING:
            return run.deadline
        deadline = run.read_at + timeout
        if run.deadline and run.deadline <= deadline:
            return run.deadline
        self._decision.told.append(OutgoingMessage(run.id, at=deadline))
        return deadline


def _differs(row: RunRow, run: StoredRun) -> bool:
    now = (row.status, row.detail, row.error, row.error_kind, row.output, row.cancel_asked, row.deadline)
    return now != (run.status, run.detail, run.error, run.error_kind, run.output, run.cancel_asked, run.deadline)


def _clean(text: str | None) -> str | None:
    return clean_error(text) if text else None
