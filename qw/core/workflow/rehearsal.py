"""Simulates a run: `plan` is called repeatedly, with assumed outcomes of the steps. Nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from qw.core.errors import Invalid, guess
from qw.core.expression.functions import fromjson
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.plan import plan
from qw.core.workflow.run import (
    Accept,
    Action,
    Again,
    Cancel,
    Counts,
    End,
    Expand,
    Fail,
    Finish,
    Gather,
    Launch,
    Mark,
    Pause,
    Run,
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

    workflow: Workflow
    assumed: Mapping[str, Assumption]
    run: Run
    states: dict[str, StepState] = field(default_factory=dict)
    entries: list[RehearsalEntry] = field(default_factory=list)
    ended: Finish | None = None
    now: datetime = _NOW

    def _drive(self) -> None:
        for _ in range(_MOST_WORK // len(self.workflow.by_id)):
            actions = plan(self.workflow, self.run, list(self.states.values()), now=self.now)
            for action in actions:
                self._take(action)
            if self.ended or not (self._end_what_runs() or actions):
                return

    def _take(self, action: Action) -> None:
        match action:
            case Start(step_id=id_) | StartRun(step_id=id_) | UndoRun(step_id=id_) | UndoRuns(step_id=id_):
                before = self.states.get(id_)
                rounds = before.rounds + 1 if before else 1
                self.states[id_] = StepState(
                    step_id=id_,
                    status=StepStatus.RUNNING,
                    task_id=_TASK,
                    child_id=_RUN,
                    rounds=rounds,
                    started_at=self.now,
                )
            case Again(step_id=id_, round=round_):
                self.states[id_] = self.states[id_]._replace(rounds=round_, is_answered=False, due_at=None)
            case Wait(step_id=id_):
                self.states[id_] = StepState(step_id=id_, status=StepStatus.RUNNING)
            case Pause(until=until, step_id=id_):
                self.now = max(self.now, until)
                self.states[id_] = self.states[id_]._replace(due_at=until)
            case Expand(step_id=id_, items=items):
                count = len(items)
                counts = Counts(total=count, started=count, completed=count)
                self.states[id_] = StepState(step_id=id_, status=StepStatus.RUNNING, items=counts)
            case Skip(step_id=id_, reason=reason):
                self._end(id_, StepStatus.SKIPPED, why=reason)
            case Fail(step_id=id_, error=error, error_kind=kind):
                self._end(id_, StepStatus.FAILED, error=error, kind=kind, why=error)
            case End(step_id=id_, status=status, result=result, error=error, error_kind=kind):
                chosen = f"chose {', '.join(map(str, result)) or 'no step'}" if isinstance(result, list) else ""
                self._end(id_, status, result=result, error=error, kind=kind, why=error or chosen)
            case Accept(step_id=id_):
                rounds = self.states[id_].rounds
                self._end(id_, StepStatus.COMPLETED, result=self.states[id_].result, why=f"{rounds} rounds")
            case Cancel(step_id=id_):
                self._end(id_, StepStatus.CANCELLED, error="stopped", why="stopped")
            case Mark(detail=detail, error=error, error_kind=kind):
                self.run = replace(self.run, detail=detail, error=error, error_kind=kind)
            case Finish():
                self.ended = action
            case Launch() | Gather():
                pass

    def _end_what_runs(self) -> bool:
        """End every running step as assumed. Return whether there was any."""
        running = [
            state for state in self.states.values() if state.status is StepStatus.RUNNING and not state.is_answered
        ]
        for state in running:
            assumed = self.assumed.get(state.step_id, Assumption())
            step = self.workflow.by_id.get(state.step_id)
            if step and step.repeat and assumed.status is StepStatus.COMPLETED and state.task_id:
                self.states[state.step_id] = state._replace(is_answered=True, result=assumed.result)
                continue
            result = [] if state.items and assumed.result is None else assumed.result
            error = None if assumed.status is StepStatus.COMPLETED else f"assumed to be {assumed.status}"
            self._end(
                state.step_id, assumed.status, result=result, error=error, kind=assumed.error_kind, why=error or ""
            )
        return bool(running)

    def _end(
        self,
        id_: str,
        status: StepStatus,
        *,
        result: Json = None,
        error: str | None = None,
        kind: str | None = None,
        why: str = "",
    ) -> None:
        before = self.states.get(id_) or StepState(step_id=id_, status=StepStatus.RUNNING)
        place = 1 + max((one.finished for one in self.states.values()), default=0)
        ended = before._replace(status=status, result=result, error=error, error_kind=kind, finished=place)
        self.states[id_] = ended._replace(is_answered=False)
        self.entries.append(RehearsalEntry(step=id_, status=status, why=why))


def rehearse(workflow: Workflow, given: JsonObject, assumed: Mapping[str, Assumption]) -> Rehearsal:
    """Simulate a run with this input and the *assumed* outcomes; other steps complete with null.

    Raise Invalid if the input is invalid or an assumption names an unknown step.
    """
    known = [*workflow.by_id, *(f"compensate:{step.id}" for step in workflow.steps)]
    for step in assumed:
        if step not in known:
            raise Invalid(f"--assume: {step[:60]!r} is not a step of workflow {workflow.name}{guess(step[:60], known)}")
    run = Run(id=_RUN, input=check_input(workflow, given), status=RunStatus.RUNNING)
    rehearsal = Rehearsal(workflow=workflow, assumed=assumed, run=run)
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
