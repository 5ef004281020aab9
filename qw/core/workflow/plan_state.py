"""The state of a run during `plan`: each action updates it, so that later decisions take earlier ones into account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from qw.core.duration import format_duration
from qw.core.expression import Scope
from qw.core.expression.evaluation import ErrorText
from qw.core.expression.functions import iso
from qw.core.task.error_kind import CANCELLED, TIMEOUT
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.join import Need
from qw.core.workflow.run import (
    CANCELLING,
    COMPENSATING,
    UNDONE_FROM_ABOVE,
    Accept,
    Action,
    Again,
    Cancel,
    Counts,
    End,
    Expand,
    Fail,
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
from qw.core.workflow.step import Step
from qw.core.workflow.workflow import Workflow


@dataclass(kw_only=True)
class View:
    """``states``: the steps that have begun. ``now``: the database's time."""

    workflow: Workflow
    run: Run
    states: dict[str, StepState]
    now: datetime
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def copy(self) -> View:
        return replace(self, states=dict(self.states))

    def status(self, step_id: str) -> StepStatus:
        state = self.states.get(step_id)
        return state.status if state else StepStatus.PENDING

    def is_met(self, step_id: str) -> bool:
        """Whether the step is completed, or its failure is tolerated."""
        return self.status(step_id) is StepStatus.COMPLETED or self.is_tolerated(step_id)

    def is_tolerated(self, step_id: str) -> bool:
        """Whether the step failed, but the run continues."""
        state = self.states.get(step_id)
        return bool(state and state.status.is_bad and self.workflow.by_id[step_id].tolerates(error_kind(state)))

    def need(self, step_id: str) -> Need:
        """Return the state of the step for its dependants. A failure that is not tolerated counts as OPEN."""
        match self.status(step_id):
            case StepStatus.COMPLETED:
                return Need.COMPLETED
            case StepStatus.SKIPPED:
                return Need.SKIPPED
            case StepStatus.FAILED | StepStatus.CANCELLED if self.is_tolerated(step_id):
                return Need.FAILED
        return Need.OPEN

    def chosen(self, switch: str) -> Sequence[Json]:
        """Return the steps that a switch chose; empty until it has ended."""
        state = self.states.get(switch)
        return state.result if state and isinstance(state.result, list) else ()

    def unstarted(self) -> list[Step]:
        return [step for step in self.workflow.steps if self.status(step.id) is StepStatus.PENDING]

    def running(self) -> list[Step]:
        return [step for step in self.workflow.steps if self.status(step.id) is StepStatus.RUNNING]

    @property
    def has_room(self) -> bool:
        """Whether ``max_parallel`` of the workflow allows another step to start."""
        most = self.workflow.max_parallel
        return most is None or len(self.running()) < most

    @property
    def is_done(self) -> bool:
        """Whether every step is completed or skipped, or its failure is tolerated."""
        return all(self.is_met(step.id) or self.status(step.id) is StepStatus.SKIPPED for step in self.workflow.steps)

    @property
    def is_late(self) -> bool:
        return self.run.deadline is not None and self.now >= self.run.deadline

    @property
    def failed(self) -> StepState | None:
        """The step that failed first. A step whose task was cancelled counts, because it can never complete."""
        found = (self.states.get(step.id) for step in self.workflow.steps)
        bad = (state for state in found if state and state.status.is_bad and not self.is_tolerated(state.step_id))
        return min(bad, key=lambda state: state.finished, default=None)

    @property
    def error(self) -> str | None:
        if self.run.error or self.run.detail == CANCELLING:  # a step stopped by a cancel has not failed
            return self.run.error
        if failed := self.failed:
            return f"step {failed.step_id}: {failed.error or failed.status}"
        if self.run.detail == COMPENSATING:  # going back again after a failed compensation
            return self.lateness if self.is_late else UNDONE_FROM_ABOVE
        return None

    @property
    def error_kind(self) -> str | None:
        if self.run.error or self.run.detail == CANCELLING:
            return self.run.error_kind
        if failed := self.failed:
            return error_kind(failed)
        return TIMEOUT if self.is_late else None

    @property
    def lateness(self) -> str:
        timeout = self.workflow.timeout  # None if the definition was edited
        return f"the run took longer than {format_duration(timeout)}" if timeout else "the run took too long"

    # -- changed by actions

    def taken(self, actions: Iterable[Action]) -> Iterator[Action]:
        """Yield the actions, applying each to this view first."""
        for action in actions:
            self.take(action)
            yield action

    def take(self, action: Action) -> None:
        match action:
            case StartRun(step_id=id_, round=round_) if round_ and id_ in self.states:
                again = self.states[id_]._replace(rounds=round_, is_answered=False, due_at=None)
                self._put(again._replace(error=None, error_kind=None))
            case Again(step_id=id_, round=round_):
                self._put(self.states[id_]._replace(rounds=round_, is_answered=False, due_at=None))
            case Pause(step_id=id_, until=until):
                self._put(self.states[id_]._replace(due_at=until))
            case Accept(step_id=id_):
                self._end(self.states[id_]._replace(status=StepStatus.COMPLETED))
            case Start(step_id=id_) | StartRun(step_id=id_) | UndoRuns(step_id=id_):
                self._put(StepState(step_id=id_, status=StepStatus.RUNNING))
            case UndoRun(step_id=id_, child=child):
                self._put(StepState(step_id=id_, status=StepStatus.RUNNING, child_id=child))
            case Wait(step_id=id_, until=until):
                self._put(StepState(step_id=id_, status=StepStatus.RUNNING, due_at=until))
            case Expand(step_id=id_, items=items):
                self._put(StepState(step_id=id_, status=StepStatus.RUNNING, items=Counts(total=len(items))))
            case Launch(step_id=id_, count=count):
                state = self.states[id_]
                assert state.items is not None
                self._put(state._replace(items=replace(state.items, started=state.items.started + count)))
            case Cancel(step_id=id_):
                self._put(self.states[id_]._replace(cancel_asked=True))
            case Skip(step_id=id_):
                self._end(StepState(step_id=id_, status=StepStatus.SKIPPED))
            case Fail(step_id=id_, error=error, error_kind=kind):
                self._end(StepState(step_id=id_, status=StepStatus.FAILED, error=error, error_kind=kind))
            case End(step_id=id_):
                before = self.states.get(id_) or StepState(step_id=id_, status=StepStatus.RUNNING)
                ended = before._replace(status=action.status, result=action.result)
                self._end(ended._replace(error=action.error, error_kind=action.error_kind))
                left = tuple(signal for signal in self.run.signals if signal.id not in action.signals)
                self.run = replace(self.run, signals=left)
            case Mark(detail=detail, error=error, error_kind=kind):
                self.run = replace(self.run, detail=detail, error=error, error_kind=kind)

    def _put(self, state: StepState) -> None:
        self.states[state.step_id] = state

    def _end(self, state: StepState) -> None:
        last = max((one.finished for one in self.states.values()), default=0)
        self._put(state._replace(finished=last + 1))

    # -- visible to expressions

    def scope(self, names: Iterable[str], **more: Json) -> Scope:
        """Return the scope for expressions; of the steps it contains only *names*."""
        return _Scope(
            self,
            input=self.run.input,
            steps={name: self._seen(name) for name in names},
            env=dict(self.env),
            **more,
        )

    def run_seen(self) -> JsonObject:
        return {
            "id": str(self.run.id),
            "workflow": self.workflow.name,
            "status": self._ending.value,
            "error": ErrorText(error, self.error_kind) if (error := self.error) else None,
            "failed": self._failed_seen(),
        }

    def _seen(self, step_id: str) -> JsonObject:
        state = self.states.get(step_id)
        if state is None:
            return {"status": StepStatus.PENDING.value, "result": None, "error": None, "taskId": None}
        task_id = str(state.task_id) if state.task_id else None
        error = ErrorText(state.error, error_kind(state)) if state.error and state.status.is_bad else state.error
        return {"status": state.status.value, "result": state.result, "error": error, "taskId": task_id}

    @property
    def _ending(self) -> RunStatus:
        """The status with which the run will end, as far as it is known."""
        if self.run.detail == CANCELLING:
            return RunStatus.CANCELLED
        if self.error:
            return RunStatus.FAILED
        return RunStatus.COMPLETED if self.is_done else RunStatus.RUNNING

    def _failed_seen(self) -> Json:
        if (failed := self.failed) is None:
            return None
        return {
            "step": failed.step_id,
            "type": self.workflow.by_id[failed.step_id].work.type,
            "taskId": str(failed.task_id) if failed.task_id else None,
            "kind": error_kind(failed),
        }


def error_kind(state: StepState) -> str | None:
    return state.error_kind or (CANCELLED if state.status is StepStatus.CANCELLED else None)


class _Scope(dict[str, Json]):
    """``run`` and ``now`` are computed on first use: ``run`` reads every step, and few expressions use it."""

    def __init__(self, view: View, **values: Json) -> None:
        super().__init__(values)
        self._view = view

    def __missing__(self, key: str) -> Json:
        if key not in ("run", "now"):
            raise KeyError(key)
        self[key] = self._view.run_seen() if key == "run" else iso(self._view.now)
        return self[key]
