"""What a run does next: one pure function from its definition and its steps so far to actions.

`plan` says the same for the same state, and says nothing more once its actions are stored, until a task ends or
someone asks for a cancel. So it may be called at any time, again after a crash, and by any daemon that holds the run.

A run goes through three stretches. Forward: steps start when what they need is completed. Back, after a failure: what
has not started is skipped, what runs may end, the compensations of completed steps run one by one, the last completed
first, then the steps of ``on_failure`` one by one. Out, after a cancel: what runs is asked to stop, and that is all; a
run that is already going back finishes that, since half undone is worse than either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from qw.core.errors import Invalid
from qw.core.evaluation import check_size
from qw.core.expression import ExpressionError, Scope
from qw.core.payload import Json, JsonObject
from qw.core.run import (
    CANCELLING,
    COMPENSATING,
    COMPENSATION,
    Action,
    Begun,
    Cancel,
    Fail,
    Finish,
    Mark,
    Run,
    RunStatus,
    Skip,
    Start,
    StepState,
    StepStatus,
    compensation_id,
)
from qw.core.step import Step, Work
from qw.core.workflow import Workflow


def plan(
    workflow: Workflow, run: Run, steps: Iterable[StepState], *, env: Mapping[str, str] | None = None
) -> list[Action]:
    """What is to be done now; empty when the run waits for a task, or is over. *env* is what ``env.…`` may read."""
    if run.status.is_final:
        return []
    states = {state.step_id: state for state in steps if state.status is not StepStatus.PENDING}
    view = _View(workflow=workflow, run=run, states=states, env=dict(env or {}))
    if run.detail == COMPENSATING:
        return list(_back(view))
    if run.detail == CANCELLING or (run.cancel_asked and not view.is_done):
        return list(_out(view))
    if view.failed is None:
        forward = list(_forward(view))
        failures = [action for action in forward if isinstance(action, Fail)]
        if not failures:
            return forward
        for failure in failures:  # nothing else of this pass is done: it would only be undone
            view = view.after(failure)
        return [*failures, *_back(view)]
    return list(_back(view))


@dataclass(frozen=True, kw_only=True)
class _View:
    """A run as it stands, and what expressions see of it."""

    workflow: Workflow
    run: Run
    states: dict[str, StepState]
    env: dict[str, Json] = field(repr=False)

    def status(self, step_id: str) -> StepStatus:
        state = self.states.get(step_id)
        return state.status if state else StepStatus.PENDING

    def unstarted(self) -> Iterator[Step]:
        return (step for step in self.workflow.steps if self.status(step.id) is StepStatus.PENDING)

    def running(self) -> list[StepState]:
        found = (self.states.get(step.id) for step in self.workflow.steps)
        return [state for state in found if state and state.status is StepStatus.RUNNING]

    @property
    def is_done(self) -> bool:
        """Whether every step ended well."""
        good = (StepStatus.COMPLETED, StepStatus.SKIPPED)
        return all(self.status(step.id) in good for step in self.workflow.steps)

    @cached_property
    def failed(self) -> StepState | None:
        """The step that failed first. One whose task was cancelled counts: it will never be completed."""
        bad = (StepStatus.FAILED, StepStatus.CANCELLED)
        found = (self.states.get(step.id) for step in self.workflow.steps)
        return min(
            (state for state in found if state and state.status in bad),
            key=lambda state: state.finished,
            default=None,
        )

    @property
    def error(self) -> str | None:
        if self.failed is None:
            return None
        return f"step {self.failed.step_id}: {self.failed.error or self.failed.status}"

    def after(self, action: Skip | Fail) -> _View:
        """The run as it will stand once *action* is stored."""
        state = StepState(
            step_id=action.step_id,
            status=_AFTER[type(action)],
            error=action.error if isinstance(action, Fail) else None,
            finished=1 + max((state.finished for state in self.states.values()), default=0),
        )
        return replace(self, states=self.states | {action.step_id: state})

    def scope(self, names: Iterable[str]) -> Scope:
        """What expressions may read: of the steps, those in *names* only."""
        return {
            "input": self.run.input,
            "steps": {name: self._seen(name) for name in names},
            "run": {
                "id": str(self.run.id),
                "workflow": self.workflow.name,
                "error": self.error,
                "failed": self._failed_seen(),
            },
            "env": self.env,
        }

    def _seen(self, step_id: str) -> JsonObject:
        state = self.states.get(step_id)
        if state is None:
            return {"status": StepStatus.PENDING.value, "result": None, "error": None, "taskId": None}
        task_id = str(state.task_id) if state.task_id else None
        return {"status": state.status.value, "result": state.result, "error": state.error, "taskId": task_id}

    def _failed_seen(self) -> Json:
        if (failed := self.failed) is None:
            return None
        type_ = next(step.work.type for step in self.workflow.steps if step.id == failed.step_id)
        return {"step": failed.step_id, "type": type_, "taskId": str(failed.task_id) if failed.task_id else None}


def _forward(view: _View) -> Iterator[Action]:
    """Each step whose needs are met starts, is skipped or fails; when all have ended, so has the run."""
    status = {step.id: view.status(step.id) for step in view.workflow.steps}
    for step in view.workflow.steps:
        if status[step.id] is StepStatus.PENDING and (action := _next(step, status, view)) is not None:
            status[step.id] = _AFTER[type(action)]
            yield action
    if all(one in (StepStatus.COMPLETED, StepStatus.SKIPPED) for one in status.values()):
        yield Finish(status=RunStatus.COMPLETED, output=_output(view))


_AFTER: dict[type[Begun], StepStatus] = {
    Start: StepStatus.RUNNING,
    Skip: StepStatus.SKIPPED,
    Fail: StepStatus.FAILED,
}


def _next(step: Step, status: Mapping[str, StepStatus], view: _View) -> Begun | None:
    for need in step.needs:
        if status[need] is StepStatus.SKIPPED:
            return Skip(step_id=step.id, reason=f"its need {need} was skipped")
    if any(status[need] is not StepStatus.COMPLETED for need in step.needs):
        return None
    return _begin(step, view)


def _begin(step: Step, view: _View) -> Begun:
    """Start *step*, or skip it when its condition says so."""
    try:
        if step.condition and not step.condition.holds(view.scope(step.condition.names())):
            return Skip(step_id=step.id, reason="its condition was false")
    except ExpressionError as error:
        return Fail(step_id=step.id, error=f"if: {error}")
    return _start(
        step.id,
        step.work,
        view,
        max_retries=step.max_retries,
        timeout=step.timeout,
        backoff=step.backoff,
        queue=step.queue,
        priority=step.priority,
    )


def _start(step_id: str, work: Work, view: _View, **policy: Any) -> Start | Fail:
    try:
        payload = work.render(view.scope(work.payload.names()))
    except Invalid as error:
        return Fail(step_id=step_id, error=str(error))
    return Start(step_id=step_id, type=work.type, payload=payload, **policy)


def _output(view: _View) -> JsonObject | None:
    """None when it is too large to be kept: it is a convenience, and each result is still with its task."""
    found = (view.states.get(step_id) for step_id in view.workflow.last)
    output = {s.step_id: s.result for s in found if s and s.status is StepStatus.COMPLETED}
    try:
        check_size(output)
    except ExpressionError:
        return None
    return output


def _out(view: _View) -> Iterator[Action]:
    """The run was cancelled: nothing new starts."""
    yield from (Skip(step_id=step.id, reason="the run was cancelled") for step in view.unstarted())
    running = view.running()
    if running and view.run.detail != CANCELLING:
        yield Mark(detail=CANCELLING, error=view.error)
    yield from (Cancel(step_id=s.step_id, task_id=s.task_id) for s in running if not s.cancel_asked)
    if not running:
        yield Finish(status=RunStatus.CANCELLED, error=view.error)


def _back(view: _View) -> Iterator[Action]:
    """A step failed: let the rest end, then undo, then run ``on_failure``, one task at a time."""
    yield from (Skip(step_id=step.id, reason="the run failed") for step in view.unstarted())
    if view.running():
        return
    for step_id, begin in _undoing(view):
        status = view.status(step_id)
        if status is StepStatus.RUNNING:
            return
        if status is not StepStatus.PENDING:
            continue
        action = begin(view)
        if isinstance(action, Start):
            if view.run.detail != COMPENSATING:
                yield Mark(detail=COMPENSATING, error=view.error)
            yield action
            return
        yield action
        view = view.after(action)
    yield _failed(view)


def _undoing(view: _View) -> Iterator[tuple[str, Callable[[_View], Begun]]]:
    """What is done after a failure, in order: the id of each step and how it begins."""
    place = {step.id: n for n, step in enumerate(view.workflow.steps)}
    steps = [step for step in view.workflow.steps if view.status(step.id) is StepStatus.COMPLETED and step.compensate]
    steps.sort(key=lambda step: (view.states[step.id].finished, place[step.id]), reverse=True)
    for step in steps:
        yield compensation_id(step.id), partial(_compensate, step)
    for step in view.workflow.on_failure:
        yield step.id, partial(_begin, step)


def _compensate(step: Step, view: _View) -> Start | Fail:
    assert step.compensate is not None
    policy = {"queue": step.queue, "priority": step.priority}
    return _start(compensation_id(step.id), step.compensate, view, compensates=view.states[step.id].task_id, **policy)


def _failed(view: _View) -> Finish:
    undone = [compensation_id(step.id) for step in view.workflow.steps if step.compensate]
    undone += [step.id for step in view.workflow.on_failure if step.work.type == COMPENSATION]
    states = [view.states[step_id] for step_id in undone if step_id in view.states]
    bad = [state for state in states if state.status in (StepStatus.FAILED, StepStatus.CANCELLED)]
    if bad:
        left = ", ".join(f"{state.step_id} ({state.error or state.status})" for state in bad)
        return Finish(status=RunStatus.FAILED, detail="compensation_failed", error=f"{view.error}; not undone: {left}")
    is_undone = any(state.status is StepStatus.COMPLETED for state in states)
    return Finish(status=RunStatus.FAILED, detail="compensated" if is_undone else None, error=view.error)
