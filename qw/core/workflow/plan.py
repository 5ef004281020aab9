"""Decides what a run does next: a pure function from its definition and the state of its steps to actions.

`plan` says the same for the same state, and says nothing more once its actions are stored, until a task ends, a signal
comes, a time is over, or someone asks for a cancel. So it may be called at any time, again after a crash, and by any
daemon that holds the run.

A run goes through three stretches. Forward: steps start when what they need has ended as their ``run_if`` says. Back,
after a failure: what has not started is skipped, what runs may end, the compensations of completed steps run one by
one, the last completed first, then the steps of ``on_failure`` one by one. When ``outputs`` has no value, all steps
have ended well: that fails the run, but nothing goes back. Out, after a cancel: what runs is asked to stop, and that
is all; a run that is already going back finishes that, since half undone is worse than either. Whichever way it went,
the steps of ``finally`` come last. A run whose compensation failed may go back once more, for what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

from qw.core.expression import ExpressionError
from qw.core.expression.evaluation import check_size
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.concurrency import OnLimit
from qw.core.workflow.join import Join, Need, RunIf, join
from qw.core.workflow.plan_state import View
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
from qw.core.workflow.step_start import begin, begin_item, compensate, gather, go_on, stop_rounds, undo_next
from qw.core.workflow.workflow import Workflow

_NEVER = datetime.min.replace(tzinfo=UTC)
_BACK = (FAILING, COMPENSATING)

Todo: TypeAlias = tuple[str, Step, Callable[[Step, View], Iterator[Action]]]


def plan(
    workflow: Workflow,
    run: Run,
    steps: Iterable[StepState],
    *,
    env: Mapping[str, str] | None = None,
    now: datetime = _NEVER,
) -> list[Action]:
    """What is to be done now; empty when the run waits, or is over. *env* is what ``env.…`` may read."""
    view = _view(workflow, run, steps, env, now)
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
    """What these items (index and value) of a foreach start, in order; `Fail` for one that has no payload."""
    if step_id not in workflow.by_id:  # a compensation; its items are the runs that it undoes
        return [UndoRun(step_id=step_id, child=UUID(str(value))) for _, value in items]
    view = _view(workflow, run, steps, env, _NEVER)
    return [begin_item(workflow.by_id[step_id], view, index, value) for index, value in items]


def _view(
    workflow: Workflow, run: Run, steps: Iterable[StepState], env: Mapping[str, str] | None, now: datetime
) -> View:
    states = {state.step_id: state for state in steps if state.status is not StepStatus.PENDING}
    return View(workflow=workflow, run=run, states=states, now=now, env=env or {})


def _next(view: View) -> Iterator[Action]:
    run = view.run
    if run.detail == CANCELLING or (run.cancel_asked and run.detail not in _BACK and not view.is_done):
        yield from _out(view)
    elif _is_queued(view) and (limit := view.workflow.concurrency):
        yield from _hold(view, limit.on_limit, run.ahead - limit.limit + 1)
    elif run.detail in _BACK or (view.failed is not None and run.detail != FINISHING):
        yield from _back(view)
    elif view.is_late and not view.is_done:
        yield from view.taken([Mark(detail=FAILING, error=view.lateness)])
        yield from _back(view)
    else:
        yield from _forward(view)


def _is_queued(view: View) -> bool:
    """Whether others with the same key go first; no longer once the time that its step allows, if any, is over."""
    run, limit = view.run, view.workflow.concurrency
    return run.status is RunStatus.PENDING and limit is not None and run.ahead >= limit.limit and not view.is_late


def _hold(view: View, on_limit: OnLimit, excess: int) -> Iterator[Action]:
    """Other runs with the same key go on."""
    if on_limit is OnLimit.SKIP:
        error = f"skipped: workflow {view.workflow.name} already has as many active runs with this key as it allows"
        yield Finish(status=RunStatus.CANCELLED, detail=SKIPPED, error=error)
    elif view.run.detail != QUEUED:
        yield Hold(cancel=excess if on_limit is OnLimit.CANCEL_RUNNING else 0)


# -- forward


def _forward(view: View) -> Iterator[Action]:
    """What runs goes on; each step whose needs are met starts, is skipped or fails; then the run may be done."""
    before = view.copy()
    actions = [*_going_on(view), *_beginning(view)]
    if view.failed is None:
        yield from actions
        if view.is_done:
            yield from _done(view)
        return
    for action in actions:  # nothing else of this pass is begun: it would only be undone
        if not isinstance(action, (Hold, Mark, Finish)) and view.status(action.step_id).is_final:
            yield from before.taken([action])
    yield from _back(before)


def _going_on(view: View) -> Iterator[Action]:
    for step in view.running():
        yield from go_on(step, view)


def _beginning(view: View) -> Iterator[Action]:
    """A step that was kept by a repair counts as ended only once what it needs has ended too."""
    open_steps: set[str] = set()
    for step in view.workflow.steps:  # needs come first
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
    """A step that cases name waits until a switch chooses it; it is skipped when all have ended and none did."""
    is_open = False
    for switch in step.switches:
        if switch in open_steps or view.need(switch) is Need.OPEN:
            is_open = True
        elif step.id in view.chosen(switch):
            return Join.START
    return Join.WAIT if is_open else Join.SKIP


def _no_join(step: Step, view: View) -> str:
    """Why a step is skipped because of its needs."""
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
    """Every step ended well: ``finally``, and then the run is over. An error in ``outputs`` undoes nothing."""
    output, error = None, None
    try:
        output = _output(view)
    except ExpressionError as fault:
        error = f"outputs: {fault}; every step has ended and nothing is undone: correct outputs and retry the run"
        if view.run.detail != FINISHING:
            yield from view.taken([Mark(detail=FINISHING, error=error)])
    if not (yield from _one_by_one(view, _finally(view), mark=FINISHING)):
        return
    bad = [state for step in view.workflow.finally_steps if (state := view.states[step.id]).status.is_bad]
    if error:
        yield Finish(status=RunStatus.FAILED, error=error)
    elif bad:
        wrong = f"step {bad[0].step_id} of finally: {bad[0].error or bad[0].status}"
        yield Finish(status=RunStatus.FAILED, error=wrong, output=output)
    else:
        yield Finish(status=RunStatus.COMPLETED, output=output)


def _output(view: View) -> Json:
    outputs = view.workflow.outputs
    return outputs.render(view.scope(outputs.names())) if outputs else _results(view)


def _results(view: View) -> JsonObject | None:
    """None when it is too large to be kept: it is a convenience, and each result is still with its task."""
    found = (view.states.get(step_id) for step_id in view.workflow.last)
    output = {s.step_id: s.result for s in found if s and s.status is StepStatus.COMPLETED}
    try:
        check_size(output)
    except ExpressionError:
        return None
    return output


# -- out


def _out(view: View) -> Iterator[Action]:
    """The run was cancelled: nothing new starts."""
    reason = "the run was cancelled"
    yield from view.taken([Skip(step_id=step.id, reason=reason) for step in view.unstarted()])
    stops = [action for step in view.running() for action in _stop(step, view, reason)]
    if view.run.detail != CANCELLING and (view.running() or view.workflow.finally_steps):
        yield from view.taken([Mark(detail=CANCELLING, error=view.error)])
    yield from view.taken(stops)
    if not view.running() and (yield from _one_by_one(view, _finally(view), mark=CANCELLING)):
        yield Finish(status=RunStatus.CANCELLED, error=view.error)


def _stop(step: Step, view: View, reason: str) -> Iterator[Action]:
    """Ask what the step started to stop, once; what only waits ends at once."""
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
    yield from view.taken([Mark(detail=COMPENSATING, error=UNDONE_FROM_ABOVE)])
    yield from _back(view)


def _back(view: View) -> Iterator[Action]:
    """It failed: let the rest end, then undo, then ``on_failure`` and ``finally``, one task at a time."""
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
    """Whether a step that runs is not given time to end by itself: it only waits, or the run is too late anyway."""
    items = view.states[step.id].items
    return (
        step.kind in (StepKind.SLEEP, StepKind.SIGNAL, StepKind.APPROVAL)
        or view.states[step.id].is_answered
        or bool(items and not items.running)
        or view.is_late
    )


def _undoing(view: View) -> list[Todo]:
    """What is done after a failure, in order: the last completed step is undone first."""
    ended = _ended(view)
    steps = [step for step in view.workflow.steps if _has_something_to_undo(step, view)]
    steps.sort(key=lambda step: ended[step.id], reverse=True)
    undo: list[Todo] = [(compensation_id(step.id), step, compensate) for step in steps]
    return [*undo, *((step.id, step, begin) for step in view.workflow.on_failure)]


def _ended(view: View) -> dict[str, tuple[int, int]]:
    """The order in which steps ended. One that a repair kept counts as ended after its needs that were done again."""
    ended: dict[str, tuple[int, int]] = {}
    for place, step in enumerate(view.workflow.steps):
        state = view.states.get(step.id)
        own = state.finished if state else 0
        ended[step.id] = (max([own, *(ended[need][0] for need in _waited_for(step))]), place)
    return ended


def _waited_for(step: Step) -> list[str]:
    """The needs that had ended, all of them, when the step began."""
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
        return state.child is not None or state.items is not None  # what was stopped half-way has undone nothing yet
    return state.status is StepStatus.COMPLETED or bool(state.items and state.items.completed)


def _finally(view: View) -> list[Todo]:
    return [(step.id, step, begin) for step in view.workflow.finally_steps]


def _one_by_one(view: View, todo: list[Todo], *, mark: str) -> Generator[Action, None, bool]:
    """Do what is to be done in its order, the next when the one before has ended. Returns whether all has ended.

    As soon as something really begins, the run is marked, so that from then on there is no other way for it.
    """
    for step_id, step, act in todo:
        if view.status(step_id) is StepStatus.RUNNING:
            yield from go_on(step, view) if step_id == step.id else undo_next(step_id, view)
        elif view.status(step_id) is StepStatus.PENDING:
            actions = list(act(step, view))
            if view.run.detail != mark and not all(isinstance(action, (Skip, Fail)) for action in actions):
                yield from view.taken([Mark(detail=mark, error=view.error)])
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
        return Finish(status=RunStatus.FAILED, detail=COMPENSATION_FAILED, error=error)
    is_undone = any(state.status is StepStatus.COMPLETED for state in states)
    is_reopened = view.run.detail == COMPENSATING and view.failed is None and not view.is_late
    return Finish(status=RunStatus.FAILED, detail=COMPENSATED if is_undone or is_reopened else None, error=view.error)


__all__ = ["plan", "plan_items"]
