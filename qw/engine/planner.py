"""Converts the actions that `plan` returns for a locked run into rows, tasks and messages to store. No I/O."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from qw.core.task import Lane, NewTask, check_new
from qw.core.workflow.plan import plan
from qw.core.workflow.plan_state import View, view_of
from qw.core.workflow.run import (
    QUEUED,
    Action,
    Again,
    Cancel,
    End,
    Expand,
    Finish,
    Gather,
    Hold,
    Launch,
    Mark,
    Pause,
    Run,
    RunStatus,
    Start,
    StartRun,
    StepState,
    UndoRun,
    UndoRuns,
    Wait,
)
from qw.engine.run_snapshot import Case
from qw.store.advances import OutgoingMessage
from qw.store.ids import new_id
from qw.store.runs import StoredRun

log = logging.getLogger(__name__)

Later: TypeAlias = Expand | Launch | Gather | StartRun | UndoRuns | Cancel | Hold

ENVIRONMENT = "QW_ENV_"  # prefix of the daemon's variables that expressions may read as env.NAME


@dataclass(kw_only=True)
class RunChanges:
    """The changes to store for a batch of runs. ``later``: actions that must query the database first.

    ``views``: each run after its actions. ``repeated``: completed tasks to run again. ``cancels``: tasks to stop, with
    the reason. ``messages``: for inboxes. ``lanes``: the lanes that got repeated tasks.
    """

    views: dict[UUID, View] = field(default_factory=dict)
    steps: dict[tuple[UUID, str], StepState] = field(default_factory=dict)
    tasks: list[NewTask] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    cancels: dict[UUID, str] = field(default_factory=dict)
    messages: list[OutgoingMessage] = field(default_factory=list)
    signals: list[tuple[int, str]] = field(default_factory=list)
    later: list[tuple[Case, Later]] = field(default_factory=list)
    lanes: set[Lane] = field(default_factory=set)

    def __iadd__(self, other: RunChanges) -> RunChanges:
        self.views |= other.views
        self.steps |= other.steps
        self.cancels |= other.cancels
        for name in ("tasks", "repeated", "runs", "messages", "signals", "later"):
            getattr(self, name).extend(getattr(other, name))
        return self

    def put(self, run: UUID, state: StepState) -> None:
        self.views[run].states[state.step_id] = self.steps[run, state.step_id] = state


def decide(case: Case, env: Mapping[str, str]) -> RunChanges:
    """Plan the next actions of a run. Never raises: a run that cannot be planned fails."""
    run = case.run
    if run.status.is_final and ("undo" not in case.asks or run.status is RunStatus.FAILED):
        return RunChanges(messages=[OutgoingMessage(run.parent_id)] if "undo" in case.asks and run.parent_id else [])
    try:
        actions = plan(case.workflow, case.value, case.states, env=env, now=run.read_at)
        return _changes(case, actions)
    except Exception as error:
        log.exception("run cannot be planned", extra={"run": str(run.id), "workflow": run.workflow})
        return RunChanges(runs=[failed(case, f"cannot be planned: {error}")])


def environment() -> dict[str, str]:
    """Return the values of ``env.…``. Call once per pass, because it reads all environment variables."""
    return {name.removeprefix(ENVIRONMENT): v for name, v in os.environ.items() if name.startswith(ENVIRONMENT)}


def failed(case: Case, error: str) -> Run:
    return replace(case.value, status=RunStatus.FAILED, detail=None, error=error, error_kind=None, output=None)


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


def _changes(case: Case, actions: Sequence[Action]) -> RunChanges:
    run = _started(case, actions)
    view = view_of(case.workflow, run, case.states)
    changes = RunChanges(views={run.id: view}, steps={(run.id, id_): step for id_, step in case.ended.items()})
    if run.deadline != case.run.deadline:
        changes.messages.append(OutgoingMessage(run.id, at=run.deadline))
    for action in actions:
        view.take(action)
        if not isinstance(action, (Hold, Mark, Finish, Launch, Gather)):
            changes.steps[run.id, action.step_id] = view.states[action.step_id]
        _add_effects(changes, case, action)
    if _differs(view.run, case.run):
        changes.runs.append(view.run)
    return changes


def _add_effects(changes: RunChanges, case: Case, action: Action) -> None:
    """Add what *action* does besides changing the state of its step or run."""
    run = case.run
    match action:
        case Start(step_id=id_):
            task = task_of(run, action)
            changes.tasks.append(task)
            changes.put(run.id, changes.steps[run.id, id_]._replace(task_id=task.id))
        case Wait(until=until) | Pause(until=until) if until:
            changes.messages.append(OutgoingMessage(run.id, at=until))
        case Again(task_id=task_id):
            changes.repeated.append(task_id)
        case UndoRun(child=child):
            changes.messages.append(OutgoingMessage(child, "undo"))
        case End(signals=signals, step_id=id_):
            changes.signals += [(signal, id_) for signal in signals]
        case Cancel(step_id=id_, reason=reason):
            state = changes.steps[run.id, id_]
            if state.task_id:
                changes.cancels[state.task_id] = reason
            elif state.child_id:
                changes.messages.append(OutgoingMessage(state.child_id, "cancel"))
            else:
                changes.later.append((case, action))
        case Expand() | Launch() | Gather() | StartRun() | UndoRuns() | Hold():
            changes.later.append((case, action))


def _started(case: Case, actions: Sequence[Action]) -> Run:
    """Return the run before *actions*: in progress, unless it stays in the queue."""
    run = case.value
    if run.status is RunStatus.PENDING and (
        any(isinstance(action, Hold) for action in actions) or (run.detail == QUEUED and not actions)
    ):
        return run
    detail = None if run.detail == QUEUED else run.detail
    return replace(run, status=RunStatus.RUNNING, detail=detail, deadline=_deadline(case))


def _deadline(case: Case) -> datetime | None:
    """Return the deadline of the run, counted from when it leaves the queue, but no later than its step allows."""
    run, timeout = case.run, case.workflow.timeout
    if not timeout or run.status is not RunStatus.PENDING:
        return run.deadline
    deadline = run.read_at + timeout
    return min(run.deadline, deadline) if run.deadline else deadline


def _differs(run: Run, stored: StoredRun) -> bool:
    new = (run.status, run.detail, run.error, run.error_kind, run.output, run.cancel_asked, run.deadline)
    return new != (
        stored.status,
        stored.detail,
        stored.error,
        stored.error_kind,
        stored.output,
        stored.cancel_asked,
        stored.deadline,
    )
