"""The state of a run during `plan`: each action updates it, so that later decisions take earlier ones into account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from qw.core.duration import format_duration
from qw.core.expression import Scope
from qw.core.expression.evaluation import ErrorText
from qw.core.expression.functions import iso
from qw.core.task.error_kind import CANCELLED, TIMEOUT
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.fold import run_after, step_after
from qw.core.workflow.join import Need
from qw.core.workflow.run import (
    CANCELLING,
    COMPENSATING,
    UNDONE_FROM_ABOVE,
    Action,
    Finish,
    Hold,
    Mark,
    Run,
    RunStatus,
    StepState,
    StepStatus,
)
from qw.core.workflow.step import Step
from qw.core.workflow.workflow import Workflow


@dataclass(kw_only=True)
class View:
    """``states``: the steps that have begun. ``now``: the database's time. ``place``: of the step that ended last."""

    workflow: Workflow
    run: Run
    states: dict[str, StepState]
    now: datetime
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    place: int = 0

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
        bad = [state for state in self.states.values() if state.status.is_bad]
        if not bad:  # nearly always; asked several times per pass
            return None
        steps = {step.id for step in self.workflow.steps}
        fatal = [state for state in bad if state.step_id in steps and not self.is_tolerated(state.step_id)]
        return min(fatal, key=lambda state: state.finished, default=None)

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
        self.run = run_after(self.run, action)
        if not isinstance(action, (Hold, Mark, Finish)):
            before = self.states.get(action.step_id) or self._pending(action.step_id)
            state = step_after(before, action)
            if state.status.is_final:
                state = state._replace(finished=self.next_place())
            self.states[action.step_id] = state

    def _pending(self, step_id: str) -> StepState:
        return StepState(step_id, StepStatus.PENDING, type=self.workflow.type_of(step_id))

    def next_place(self) -> int:
        self.place += 1
        return self.place

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


NEVER = datetime.min.replace(tzinfo=UTC)


def view_of(
    workflow: Workflow,
    run: Run,
    steps: Iterable[StepState],
    *,
    env: Mapping[str, str] | None = None,
    now: datetime = NEVER,
) -> View:
    states = {state.step_id: state for state in steps if state.status is not StepStatus.PENDING}
    place = max((state.finished for state in states.values()), default=0)
    return View(workflow=workflow, run=run, states=states, now=now, env=env or {}, place=place)


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
