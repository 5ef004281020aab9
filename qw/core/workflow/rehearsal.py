"""Simulates a run: `plan` is called repeatedly, with assumed outcomes of the steps. Nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from qw.core.errors import Invalid, guess
from qw.core.expression.functions import fromjson
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.plan import plan
from qw.core.workflow.plan_state import View, view_of
from qw.core.workflow.run import (
    Accept,
    Action,
    Cancel,
    Counts,
    End,
    Expand,
    Fail,
    Finish,
    Pause,
    Run,
    RunStatus,
    Skip,
    Start,
    StartRun,
    StepStatus,
    UndoRun,
    UndoRuns,
)
from qw.core.workflow.workflow import Workflow, check_input

_RUN, _TASK = UUID(int=1), UUID(int=2)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_WORK = 200_000  # steps examined in all passes; each pass examines all steps


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """The assumed outcome of a step: its result, or an error of some kind."""

    status: StepStatus = StepStatus.COMPLETED
    result: Json = None
    error_kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class RehearsalEntry:
    """A step in the order of the run: its status, and the reason if it is not obvious."""

    step: str
    status: StepStatus
    why: str = ""


@dataclass(kw_only=True)
class Rehearsal:
    """The ``entries`` in order, and how the run ended; ``ended`` None: it does not end by itself."""

    view: View
    assumed: Mapping[str, Assumption]
    entries: list[RehearsalEntry] = field(default_factory=list)
    ended: Finish | None = None

    def _drive(self) -> None:
        view = self.view
        for _ in range(_MOST_WORK // len(view.workflow.by_id)):
            actions = plan(view.workflow, view.run, list(view.states.values()), now=view.now)
            for action in actions:
                self._take(action)
            if self.ended or not (self._end_what_runs() or actions):
                return

    def _take(self, action: Action) -> None:
        self.view.take(action)
        match action:
            case Start(step_id=id_) | StartRun(step_id=id_) | UndoRun(step_id=id_) | UndoRuns(step_id=id_):
                self._change(id_, task_id=_TASK, child_id=_RUN, started_at=self.view.now)
            case Pause(until=until):
                self.view.now = max(self.view.now, until)
            case Expand(step_id=id_, items=items):
                count = len(items)
                self._change(id_, items=Counts(total=count, started=count, completed=count))
            case Skip(step_id=id_, reason=reason):
                self._enter(id_, reason)
            case Fail(step_id=id_, error=error):
                self._enter(id_, error)
            case End(step_id=id_, result=result, error=error):
                chosen = f"chose {', '.join(map(str, result)) or 'no step'}" if isinstance(result, list) else ""
                self._enter(id_, error or chosen)
            case Accept(step_id=id_):
                self._enter(id_, f"{self.view.states[id_].rounds} rounds")
            case Cancel(step_id=id_):
                self._take(End(step_id=id_, status=StepStatus.CANCELLED, error="stopped"))
            case Finish():
                self.ended = action

    def _end_what_runs(self) -> bool:
        """End every running step as assumed. Return whether there was any."""
        running = [
            state for state in self.view.states.values() if state.status is StepStatus.RUNNING and not state.is_answered
        ]
        for state in running:
            id_, assumed = state.step_id, self.assumed.get(state.step_id, Assumption())
            step = self.view.workflow.by_id.get(id_)
            if step and step.repeat and assumed.status is StepStatus.COMPLETED and state.task_id:
                self._change(id_, is_answered=True, result=assumed.result)
                continue
            result = [] if state.items and assumed.result is None else assumed.result
            error = None if assumed.status is StepStatus.COMPLETED else f"assumed to be {assumed.status}"
            end = End(step_id=id_, status=assumed.status, result=result, error=error, error_kind=assumed.error_kind)
            self.view.take(end)
            self._enter(id_, error or "")
        return bool(running)

    def _change(self, id_: str, **fields: Any) -> None:
        self.view.states[id_] = self.view.states[id_]._replace(**fields)

    def _enter(self, id_: str, why: str) -> None:
        self.entries.append(RehearsalEntry(step=id_, status=self.view.states[id_].status, why=why))


def rehearse(workflow: Workflow, given: JsonObject, assumed: Mapping[str, Assumption]) -> Rehearsal:
    """Simulate a run with this input and the *assumed* outcomes; other steps complete with null.

    Raise Invalid if the input is invalid or an assumption names an unknown step.
    """
    known = [*workflow.by_id, *(f"compensate:{step.id}" for step in workflow.steps)]
    for step in assumed:
        if step not in known:
            raise Invalid(f"--assume: {step[:60]!r} is not a step of workflow {workflow.name}{guess(step[:60], known)}")
    run = Run(id=_RUN, input=check_input(workflow, given), status=RunStatus.RUNNING)
    rehearsal = Rehearsal(view=view_of(workflow, run, (), now=_NOW), assumed=assumed)
    rehearsal._drive()
    return rehearsal


def parse_assumption(word: str) -> tuple[str, Assumption]:
    """Parse ``STEP=completed``, ``failed``, ``failed:KIND`` or ``cancelled``; or ``STEP=`` and a result in JSON."""
    step, sign, said = word.partition("=")
    status, _, kind = said.partition(":")
    if not sign or not step:
        raise Invalid(f"--assume: {word[:60]!r} is not STEP=failed, STEP=failed:KIND, STEP=completed or STEP=JSON")
    if status in (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELLED) and (not kind or status == "failed"):
        return step, Assumption(status=StepStatus(status), error_kind=kind or None)
    try:
        return step, Assumption(result=fromjson(said))
    except ValueError as error:
        message = f"--assume: {said[:60]!r} is not failed, failed:KIND, completed, cancelled or JSON: {error}"
        raise Invalid(message) from None
