"""Decides what a run does next: a pure function from its definition and the state of its steps to actions.

For the same state, `plan` returns the same actions. Once these are stored, it returns no more until a task ends, a
signal or a cancel request arrives, or a timer is due. So it may be called at any time, again after a crash, and by any
daemon that holds the run.

A run moves in one of three directions:

- Forward: steps start when their needs have ended as ``run_if`` requires.
- Back, after a failure: unstarted steps are skipped and running steps may end. Then the compensations of completed
  steps run one by one, that of the last completed step first, and then the steps of ``on_failure`` one by one.
- Out, after a cancel: running steps are asked to stop, and nothing is undone. A run that is already going back ignores
  the cancel, because a half undone run is worse than either result.

In all cases the steps of ``finally`` run last. If ``outputs`` cannot be evaluated, all steps have ended well: the run
fails, but nothing is undone. A run whose compensation failed may go back again, for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from qw.core.expression import ExpressionError
from qw.core.expression.evaluation import check_size
from qw.core.task.error_kind import EXPRESSION, TIMEOUT
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.concurrency import OnLimit
from qw.core.workflow.join import Join, Need, RunIf, join
from qw.core.workflow.plan_state import NEVER, View, error_kind, view_of
from qw.core.workflow.run import (
    CANCELLING,
    COMPENSATED,
    COMPENSATING,
    COMPENSATION,
    COMPENSATION_FAILED,
    FAILING,
    FINISHING,
    QUEUED,
    SKIPPED,
    UNDONE_FROM_ABOVE,
    Action,
    Cancel,
    End,
    Fail,
    Finish,
    Hold,
    Mark,
    Run,
    RunStatus,
    Skip,
    Start,
    StartRun,
    StepState,
    StepStatus,
    UndoRun,
    compensation_id,
)
from qw.core.workflow.step import Step, StepKind
from qw.core.workflow.step_start import begin, begin_item, compensate, continue_step, gather, stop_rounds, undo_next
from qw.core.workflow.workflow import Workflow

_BACK = (FAILING, COMPENSATING)

Todo: TypeAlias = tuple[str, Step, Callable[[Step, View], Iterator[Action]]]


def plan(
    workflow: Workflow,
    run: Run,
    steps: Iterable[StepState],
    *,
    env: Mapping[str, str] | None = None,
    now: datetime = NEVER,
) -> list[Action]:
    """Return the next actions; empty if the run waits or is over. *env*: the values of ``env.…``."""
    view = view_of(workflow, run, steps, env=env, now=now)
    if run.undo_asked and run.detail not in _BACK:
        return list(_reopen(view)) if run.status is not RunStatus.FAILED else []
    return [] if run.status.is_final else list(_next(view))


def plan_items(
    workflow: Workflow,
    run: Run,
    steps: Iterable[StepState],
    step_id: str,
    items: Iterable[tuple[int, Json]],
    *,
    env: Mapping[str, str] | None = None,
) -> list[Start | StartRun | UndoRun | Fail]:
    """Return the actions that start these items (index, value) of a foreach; `Fail` for an invalid payload."""
    if step_id not in workflow.by_id:  # a compensation, whose items are the runs to undo
        return [UndoRun(step_id=step_id, child=UUID(str(value))) for _, value in items]
    view = view_of(workflow, run, steps, env=env)
    return [begin_item(workflow.by_id[step_id], view, index, value) for index, value in items]


def _next(view: View) -> Iterator[Action]:
    run = view.run
    if run.detail == CANCELLING or (run.cancel_asked and run.detail not in _BACK and not view.is_done):
        yield from _out(view)
    elif _is_queued(view) and (limit := view.workflow.concurrency):
        yield from _hold(view, limit.on_limit, run.ahead - limit.limit + 1)
    elif run.detail in _BACK or (view.failed is not None and run.detail != FINISHING):
        yield from _back(view)
    elif view.is_late and not view.is_done:
        yield from view.taken([Mark(detail=FAILING, error=view.lateness, error_kind=TIMEOUT)])
        yield from _back(view)
    else:
        yield from _forward(view)


def _is_queued(view: View) -> bool:
    """Whether the run waits for others with the same key. Ends when the deadline set by a parent step passes."""
    run, limit = view.run, view.workflow.concurrency
    return run.status is RunStatus.PENDING and limit is not None and run.ahead >= limit.limit and not view.is_late


def _hold(view: View, on_limit: OnLimit, excess: int) -> Iterator[Action]:
    """Queue or skip the run, because other runs with the same key are active."""
    if on_limit is OnLimit.SKIP:
        error = f"skipped: workflow {view.workflow.name} already has as many active runs with this key as it allows"
        yield Finish(status=RunStatus.CANCELLED, detail=SKIPPED, error=error)
    elif view.run.detail != QUEUED:
        yield Hold(cancel=excess if on_limit is OnLimit.CANCEL_RUNNING else 0)


# -- forward


def _forward(view: View) -> Iterator[Action]:
    """Continue running steps; start, skip or fail each step whose needs have ended; then perhaps finish the run."""
    before = view.copy()
    actions = [*_continued(view), *_begun(view)]
    if view.failed is None:
        yield from actions
        if view.is_done:
            yield from _done(view)
        return
    for action in actions:  # a step failed: start nothing that would only be undone
        if not isinstance(action, (Hold, Mark, Finish)) and view.status(action.step_id).is_final:
            yield from before.taken([action])
    yield from _back(before)


def _continued(view: View) -> Iterator[Action]:
    for step in view.running():
        yield from continue_step(step, view)


def _begun(view: View) -> Iterator[Action]:
    """A step kept by a repair counts as ended only once its needs have ended too."""
    open_steps: set[str] = set()
    for step in view.workflow.steps:  # in topological order
        if view.status(step.id) is StepStatus.PENDING:
            match _joined(step, view, open_steps):
                case Join.SKIP:
                    yield from view.taken([Skip(step_id=step.id, reason=_no_join(step, view))])
                case Join.START if step.kind is StepKind.SWITCH or view.has_room:
                    yield from begin(step, view)
        if not view.status(step.id).is_final or (
            not open_steps.isdisjoint(step.needs) and _joined(step, view, open_steps) is Join.WAIT
        ):
            open_steps.add(step.id)


def _joined(step: Step, view: View, open_steps: AbstractSet[str]) -> Join:
    needs = step.needs
    if step.switches:
        if (of_switches := _switched(step, view, open_steps)) is not Join.START:
            return of_switches
        needs = tuple(need for need in needs if need not in step.switches)
    return join(step.run_if, [Need.OPEN if need in open_steps else view.need(need) for need in needs])


def _switched(step: Step, view: View, open_steps: AbstractSet[str]) -> Join:
    """A step named in cases waits until a switch chooses it; if all switches end without doing so, it is skipped."""
    is_open = False
    for switch in step.switches:
        if switch in open_steps or view.need(switch) is Need.OPEN:
            is_open = True
        elif step.id in view.chosen(switch):
            return Join.START
    return Join.WAIT if is_open else Join.SKIP


def _no_join(step: Step, view: View) -> str:
    """Return why a step is skipped because of its needs."""
    if step.switches and not any(step.id in view.chosen(switch) for switch in step.switches):
        return " and ".join(_other_choice(switch, view) for switch in step.switches)
    if step.run_if is not RunIf.ALL_COMPLETED:
        ended = ", ".join(f"{need} is {view.status(need)}" for need in step.needs)
        return f"run_if: {step.run_if}, but {ended}"
    skipped = next(need for need in step.needs if view.status(need) is StepStatus.SKIPPED)
    return f"its need {skipped} was skipped"


def _other_choice(switch: str, view: View) -> str:
    if view.status(switch) is not StepStatus.COMPLETED:
        return f"its switch {switch} is {view.status(switch)}"
    return f"switch {switch} chose {', '.join(map(str, view.chosen(switch))) or 'no step'}"


def _done(view: View) -> Iterator[Action]:
    """All steps ended well: run ``finally``, then finish the run. An error in ``outputs`` undoes nothing."""
    output, error = None, None
    try:
        output = _output(view)
    except ExpressionError as fault:
        error = f"outputs: {fault}; every step has ended and nothing is undone: correct outputs and retry the run"
        if view.run.detail != FINISHING:
            yield from view.taken([Mark(detail=FINISHING, error=error, error_kind=EXPRESSION)])
    if not (yield from _one_by_one(view, _finally(view), mark=FINISHING)):
        return
    bad = [state for step in view.workflow.finally_steps if (state := view.states[step.id]).status.is_bad]
    if error:
        yield Finish(status=RunStatus.FAILED, error=error, error_kind=EXPRESSION)
    elif bad:
        wrong = f"step {bad[0].step_id} of finally: {bad[0].error or bad[0].status}"
        yield Finish(status=RunStatus.FAILED, error=wrong, error_kind=error_kind(bad[0]), output=output)
    else:
        yield Finish(status=RunStatus.COMPLETED, output=output)


def _output(view: View) -> Json:
    outputs = view.workflow.outputs
    return outputs.render(view.scope(outputs.names())) if outputs else _results(view)


def _results(view: View) -> JsonObject | None:
    """Return the results of the last steps; None if they are too large. Each result is also stored with its task."""
    states = (view.states.get(step_id) for step_id in view.workflow.last)
    output = {s.step_id: s.result for s in states if s and s.status is StepStatus.COMPLETED}
    try:
        check_size(output)
    except ExpressionError:
        return None
    return output


# -- out


def _out(view: View) -> Iterator[Action]:
    """The run was cancelled: start nothing new, stop what runs."""
    reason = "the run was cancelled"
    yield from view.taken([Skip(step_id=step.id, reason=reason) for step in view.unstarted()])
    stops = [action for step in view.running() for action in _stop(step, view, reason)]
    if view.run.detail != CANCELLING and (view.running() or view.workflow.finally_steps):
        yield from view.taken([Mark(detail=CANCELLING, error=view.error, error_kind=view.error_kind)])
    yield from view.taken(stops)
    if not view.running() and (yield from _one_by_one(view, _finally(view), mark=CANCELLING)):
        yield Finish(status=RunStatus.CANCELLED, error=view.error, error_kind=view.error_kind)


def _stop(step: Step, view: View, reason: str) -> Iterator[Action]:
    """Ask the step's task, run or items to stop, once; a step that only waits ends at once."""
    state = view.states[step.id]
    if step.kind in (StepKind.SLEEP, StepKind.SIGNAL, StepKind.APPROVAL):
        yield End(step_id=step.id, status=StepStatus.CANCELLED, error=reason)
    elif state.items and not state.items.running:
        yield gather(state, state.items)
    elif state.is_answered:
        yield stop_rounds(step, view, reason)
    elif not state.cancel_asked:
        yield Cancel(step_id=step.id, task_id=state.task_id, reason=reason)


# -- back


def _reopen(view: View) -> Iterator[Action]:
    yield from view.taken([Mark(detail=COMPENSATING, error=UNDONE_FROM_ABOVE, error_kind=None)])
    yield from _back(view)


def _back(view: View) -> Iterator[Action]:
    """The run failed: let running steps end, then undo, then ``on_failure`` and ``finally``, one task at a time."""
    yield from view.taken([Skip(step_id=step.id, reason="the run failed") for step in view.unstarted()])
    reason = view.lateness if view.is_late else "the run failed"
    for step in view.running():
        yield from view.taken([*_stop(step, view, reason)] if _ends_now(step, view) else [])
    if view.running():
        return
    if not (yield from _one_by_one(view, _undoing(view), mark=COMPENSATING)):
        return
    mark = COMPENSATING if view.run.detail == COMPENSATING else FAILING
    if (yield from _one_by_one(view, _finally(view), mark=mark)):
        yield _failed(view)


def _ends_now(step: Step, view: View) -> bool:
    """Whether a running step is stopped at once: it only waits, or the deadline of the run has passed."""
    items = view.states[step.id].items
    return (
        step.kind in (StepKind.SLEEP, StepKind.SIGNAL, StepKind.APPROVAL)
        or view.states[step.id].is_answered
        or bool(items and not items.running)
        or view.is_late
    )


def _undoing(view: View) -> list[Todo]:
    """Return the work after a failure in order: compensations, last completed step first, then ``on_failure``."""
    ended = _ended(view)
    steps = [step for step in view.workflow.steps if _has_something_to_undo(step, view)]
    steps.sort(key=lambda step: ended[step.id], reverse=True)
    undo: list[Todo] = [(compensation_id(step.id), step, compensate) for step in steps]
    return [*undo, *((step.id, step, begin) for step in view.workflow.on_failure)]


def _ended(view: View) -> dict[str, tuple[int, int]]:
    """Return the order in which steps ended. A step kept by a repair counts as ended after its repeated needs."""
    ended: dict[str, tuple[int, int]] = {}
    for place, step in enumerate(view.workflow.steps):
        state = view.states.get(step.id)
        own = state.finished if state else 0
        ended[step.id] = (max([own, *(ended[need][0] for need in _waited_for(step))]), place)
    return ended


def _waited_for(step: Step) -> list[str]:
    """Return the needs that had certainly ended when the step began."""
    needs = step.needs if len(step.switches) < 2 else [need for need in step.needs if need not in step.switches]
    is_early = step.run_if in (RunIf.ANY_COMPLETED, RunIf.ANY_FAILED)
    return [need for need in needs if not is_early or need in step.switches]


def _has_something_to_undo(step: Step, view: View) -> bool:
    state = view.states.get(step.id)
    if state is None or (step.compensate is None and step.kind is not StepKind.WORKFLOW):
        return False
    if step.repeat and (step.compensate is None or not state.rounds):
        return state.rounds > 0
    if state.status is StepStatus.CANCELLED and step.compensate is None:
        return state.child_id is not None or state.items is not None  # a stopped run has not undone its work yet
    return state.status is StepStatus.COMPLETED or bool(state.items and state.items.completed)


def _finally(view: View) -> list[Todo]:
    return [(step.id, step, begin) for step in view.workflow.finally_steps]


def _one_by_one(view: View, todo: list[Todo], *, mark: str) -> Generator[Action, None, bool]:
    """Do the work in order, each item after the previous one has ended. Return whether all has ended.

    When the first of them actually starts, the run is marked, so that it cannot change its direction afterwards.
    """
    for step_id, step, act in todo:
        if view.status(step_id) is StepStatus.RUNNING:
            yield from continue_step(step, view) if step_id == step.id else undo_next(step_id, view)
        elif view.status(step_id) is StepStatus.PENDING:
            actions = list(act(step, view))
            if view.run.detail != mark and not all(isinstance(action, (Skip, Fail)) for action in actions):
                yield from view.taken([Mark(detail=mark, error=view.error, error_kind=view.error_kind)])
            yield from actions
        if view.status(step_id) is StepStatus.RUNNING:
            return False
    return True


def _failed(view: View) -> Finish:
    undone = [compensation_id(step.id) for step in view.workflow.steps]
    undone += [step.id for step in view.workflow.on_failure if step.work.type == COMPENSATION]
    states = [view.states[step_id] for step_id in undone if step_id in view.states]
    bad = [state for state in states if state.status.is_bad]
    if bad:
        left = ", ".join(f"{state.step_id} ({state.error or state.status})" for state in bad)
        error = f"{view.error}; not undone: {left}"
        return Finish(status=RunStatus.FAILED, detail=COMPENSATION_FAILED, error=error, error_kind=view.error_kind)
    is_undone = any(state.status is StepStatus.COMPLETED for state in states)
    is_reopened = view.run.detail == COMPENSATING and view.failed is None and not view.is_late
    detail = COMPENSATED if is_undone or is_reopened else None
    return Finish(status=RunStatus.FAILED, detail=detail, error=view.error, error_kind=view.error_kind)


__all__ = ["plan", "plan_items"]
