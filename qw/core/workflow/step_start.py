"""Returns the actions that start and continue a step; called by `qw.core.workflow.plan` once a step is due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qw.core.duration import format_duration
from qw.core.errors import Invalid
from qw.core.expression import ExpressionError, Scope
from qw.core.task import Backoff
from qw.core.task.ending import backoff_delay
from qw.core.task.error_kind import EXHAUSTED, EXPRESSION, INVALID, REJECTED, TIMEOUT
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.foreach import AT_ONCE
from qw.core.workflow.plan_state import View
from qw.core.workflow.run import (
    Accept,
    Action,
    Again,
    Counts,
    End,
    Expand,
    Fail,
    Gather,
    Launch,
    Pause,
    Signal,
    Skip,
    Start,
    StartRun,
    StepAction,
    StepState,
    StepStatus,
    UndoRun,
    UndoRuns,
    Wait,
    approval_name,
    compensation_id,
)
from qw.core.workflow.step import Compensation, Step, StepKind
from qw.core.workflow.step_kinds import signal_count, signal_name, sleep_end
from qw.core.workflow.switch import choose


def begin(step: Step, view: View) -> Iterator[Action]:
    """Start *step* and continue it as far as possible. Skip it if its condition is false; fail it on errors."""
    try:
        if step.condition and not step.condition.holds(view.scope(step.condition.names())):
            first: StepAction = Skip(step_id=step.id, reason="its condition was false")
        else:
            first = _first(step, view)
    except ExpressionError as error:
        first = Fail(step_id=step.id, error=f"if: {error}")
    yield from view.taken([first])
    if view.status(step.id) is StepStatus.RUNNING:
        yield from continue_step(step, view)


def _first(step: Step, view: View) -> StepAction:
    try:
        if step.repeat and step.repeat.while_ and not step.repeat.goes_on(_round_scope(step, view, None, 0)):
            return End(step_id=step.id, status=StepStatus.COMPLETED)
        if step.items:
            return Expand(step_id=step.id, items=step.items.values(view.scope(step.items.source.names())))
        if step.repeat and step.kind is StepKind.WORKFLOW:
            return _child_of_round(step, view, None, 1)
        payload = step.work.render(view.scope(step.work.payload.names()))
        match step.kind:
            case StepKind.TASK:
                return _task(step, payload)
            case StepKind.SLEEP:
                return Wait(step_id=step.id, until=sleep_end(payload, view.now))
            case StepKind.SIGNAL | StepKind.APPROVAL:
                _awaited(step, payload)
                if step.kind is StepKind.SIGNAL and signal_count(payload) == 0:
                    return End(step_id=step.id, status=StepStatus.COMPLETED, result=[])
                until = view.now + step.timeout if step.timeout else None
                return Wait(step_id=step.id, until=until, shown=payload if step.kind is StepKind.APPROVAL else None)
            case StepKind.WORKFLOW:
                return _child(step, payload)
            case StepKind.SWITCH:
                return _chosen(step, view)
    except Invalid as error:
        return Fail(step_id=step.id, error=f"foreach: {error}" if step.items else str(error), error_kind=_kind(error))


def _kind(error: Invalid) -> str:
    return EXPRESSION if isinstance(error, ExpressionError) else INVALID


def _task(step: Step, payload: JsonObject) -> Start:
    return Start(
        step_id=step.id,
        type=step.work.type,
        payload=payload,
        round=1 if step.repeat else None,
        backoff=step.backoff,
        **step.settings(),
    )


def _child(step: Step, payload: JsonObject) -> StartRun:
    input = payload.get("input") or {}
    if not isinstance(input, dict):
        raise Invalid("input must be an object")
    first = 1 if step.max_retries else None
    return StartRun(step_id=step.id, workflow=str(payload["workflow"]), input=input, round=first, timeout=step.timeout)


def _chosen(step: Step, view: View) -> StepAction:
    names = {name for case in step.cases if case.condition for name in case.condition.names()}
    try:
        return End(step_id=step.id, status=StepStatus.COMPLETED, result=[*choose(step.cases, view.scope(names))])
    except ExpressionError as error:
        return Fail(step_id=step.id, error=f"switch: {error}")


def _round_scope(step: Step, view: View, result: Json, round_: int) -> Scope:
    assert step.repeat is not None
    return view.scope(step.repeat.condition.names(), result=result, round=round_)


def _child_of_round(step: Step, view: View, result: Json, round_: int) -> StartRun:
    payload = step.work.render(view.scope(step.work.payload.names(), result=result, round=round_))
    return replace(_child(step, payload), round=round_)


def _next_round(step: Step, state: StepState, view: View) -> StepAction | None:
    """Return what follows a round that has ended; None until the next round is due."""
    repeat = step.repeat
    assert repeat is not None
    if state.due_at and state.due_at > view.now:
        return None
    try:
        if state.due_at:
            return _again(step, state, view)
        if not repeat.goes_on(_round_scope(step, view, state.result, state.rounds)):
            return Accept(step_id=step.id)
        if state.rounds >= repeat.max:
            error = f"not done after {state.rounds:,} rounds (repeat {repeat.title})"
            return End(step_id=step.id, status=StepStatus.FAILED, error=error, error_kind=EXHAUSTED)
        delay = repeat.delay_after(state.rounds)
        if repeat.timeout and state.started_at and view.now + delay > state.started_at + repeat.timeout:
            error = f"not done within {format_duration(repeat.timeout)} (repeat {repeat.title})"
            return End(step_id=step.id, status=StepStatus.FAILED, error=error, error_kind=TIMEOUT)
        return Pause(step_id=step.id, until=view.now + delay) if delay else _again(step, state, view)
    except Invalid as error:
        return Fail(step_id=step.id, error=f"repeat: {error}", error_kind=_kind(error))


def _again(step: Step, state: StepState, view: View) -> StepAction:
    if step.kind is StepKind.WORKFLOW:
        return _child_of_round(step, view, state.result, state.rounds + 1)
    assert state.task_id is not None
    return Again(step_id=step.id, task_id=state.task_id, round=state.rounds + 1)


def _next_try(step: Step, state: StepState, view: View) -> StepAction | None:
    """Return what follows a failed run that is retried; None until the next try is due."""
    if state.due_at and state.due_at > view.now:
        return None
    if not state.due_at:
        # without jitter, because this is a pure function
        return Pause(step_id=step.id, until=view.now + backoff_delay(step.backoff or Backoff(), state.rounds, 1.0))
    try:
        payload = step.work.render(view.scope(step.work.payload.names()))
        return replace(_child(step, payload), round=state.rounds + 1)
    except Invalid as error:
        return Fail(step_id=step.id, error=str(error), error_kind=_kind(error))


def stop_rounds(step: Step, view: View, reason: str) -> StepAction:
    """End a repeat, or the tries of a workflow, between two rounds, so that no other starts."""
    state = view.states[step.id]
    if step.repeat is None:
        return End(step_id=step.id, status=StepStatus.FAILED, error=state.error, error_kind=state.error_kind)
    try:
        is_done = not state.due_at and not step.repeat.goes_on(_round_scope(step, view, state.result, state.rounds))
    except ExpressionError:
        is_done = False
    if is_done:
        return Accept(step_id=step.id)
    error = f"stopped after {state.rounds:,} rounds: {reason}"
    return End(step_id=step.id, status=StepStatus.CANCELLED, error=error)


def begin_item(step: Step, view: View, index: int, value: Json) -> Start | StartRun | Fail:
    """Return the task or run of one item of a foreach, or `Fail` if its payload is invalid."""
    try:
        payload = step.work.render(view.scope(step.work.payload.names(), item=value, index=index))
        return _child(step, payload) if step.kind is StepKind.WORKFLOW else _task(step, payload)
    except Invalid as error:
        return Fail(step_id=step.id, error=str(error), error_kind=_kind(error))


def continue_step(step: Step, view: View) -> Iterator[Action]:
    """Continue a running step, whose items, round, signal or timer may be ready."""
    state = view.states[step.id]
    if state.items:
        yield from view.taken(_next_items(step, state, state.items))
    elif step.repeat and state.is_answered:
        action = _next_round(step, state, view)
        yield from view.taken([action] if action else [])
    elif state.is_answered:
        action = _next_try(step, state, view)
        yield from view.taken([action] if action else [])
    elif step.kind is StepKind.SLEEP and state.due_at and state.due_at <= view.now:
        yield from view.taken([End(step_id=step.id, status=StepStatus.COMPLETED)])
    elif step.kind in (StepKind.SIGNAL, StepKind.APPROVAL):
        yield from view.taken(_heard(step, state, view))


def _next_items(step: Step, state: StepState, items: Counts) -> Iterator[StepAction]:
    assert step.items is not None
    is_stopped = items.failed > 0 and step.items.fail_fast and not step.continue_on_error
    left = 0 if is_stopped else items.total - items.started
    if not left and not items.running:
        yield gather(state, items)
    elif (room := min(left, step.items.max_parallel - items.running)) > 0:
        yield Launch(step_id=step.id, count=min(room, AT_ONCE), more=room > AT_ONCE)


def gather(state: StepState, items: Counts) -> Gather:
    """End a foreach of which no item is running."""
    if items.failed and not state.cancel_asked:
        error = f"{items.failed:,} of {items.total:,} items failed: {state.error}"
        return Gather(step_id=state.step_id, status=StepStatus.FAILED, error=error)
    if items.completed < items.total:
        error = f"stopped after {items.completed:,} of {items.total:,} items"
        return Gather(step_id=state.step_id, status=StepStatus.CANCELLED, error=error)
    return Gather(step_id=state.step_id, status=StepStatus.COMPLETED)


def undo_next(step_id: str, view: View) -> Iterator[Action]:
    """Start to undo the next run of a compensation, once the previous one is over."""
    state = view.states[step_id]
    if (items := state.items) and not items.running:
        is_last = items.started == items.total
        yield from view.taken([gather(state, items) if is_last else Launch(step_id=step_id, count=1)])


def _heard(step: Step, state: StepState, view: View) -> Iterator[StepAction]:
    payload = step.work.render(view.scope(step.work.payload.names()))
    name = _awaited(step, payload)
    count = None if step.kind is StepKind.APPROVAL else signal_count(payload)
    signals = [signal for signal in view.run.signals if signal.name == name][: 1 if count is None else count]
    if len(signals) == (count or 1):
        yield _decided(step, signals[0]) if step.kind is StepKind.APPROVAL else _received(step, signals, count)
    elif state.due_at and state.due_at <= view.now:
        assert step.timeout is not None
        what = f"no signal {name!r} came" if count is None else f"{len(signals)} of {count} signals {name!r} came"
        what = "not approved" if step.kind is StepKind.APPROVAL else what
        error = f"{what} within {format_duration(step.timeout)}"
        yield End(step_id=step.id, status=StepStatus.FAILED, error=error, error_kind=TIMEOUT)


def _awaited(step: Step, payload: JsonObject) -> str:
    return approval_name(step.id) if step.kind is StepKind.APPROVAL else signal_name(payload, step.id)


def _received(step: Step, signals: list[Signal], count: int | None) -> End:
    payloads = [signal.payload for signal in signals]
    result = payloads[0] if count is None else payloads
    ids = tuple(signal.id for signal in signals)
    return End(step_id=step.id, status=StepStatus.COMPLETED, result=result, signals=ids)


def _decided(step: Step, signal: Signal) -> End:
    said = signal.payload if isinstance(signal.payload, dict) else {}
    result: JsonObject = {
        "approved": said.get("approved") is True,
        "by": signal.sent_by,
        "at": signal.sent_at.isoformat() if signal.sent_at else None,
        "comment": said.get("comment"),
    }
    if result["approved"]:
        return End(step_id=step.id, status=StepStatus.COMPLETED, result=result, signals=(signal.id,))
    who, why = signal.sent_by or "somebody", f": {said['comment']}" if said.get("comment") else ""
    return End(
        step_id=step.id,
        status=StepStatus.FAILED,
        result=result,
        error=f"rejected by {who}{why}",
        error_kind=REJECTED,
        signals=(signal.id,),
    )


def compensate(step: Step, view: View) -> Iterator[Action]:
    """Undo *step*: with its declared compensation, or else by undoing the runs that it started."""
    state, step_id = view.states[step.id], compensation_id(step.id)
    action: StepAction
    if step.compensate is not None:
        action = _undo(step, step.compensate, view)
    elif state.items or step.repeat:
        action = UndoRuns(step_id=step_id, of=step.id)
    else:
        assert state.child_id is not None
        action = UndoRun(step_id=step_id, child=state.child_id)
    yield from view.taken([action])


def _undo(step: Step, work: Compensation, view: View) -> Start | Fail:
    step_id = compensation_id(step.id)
    try:
        payload = work.render(view.scope(work.payload.names()))
    except Invalid as error:
        return Fail(step_id=step_id, error=str(error), error_kind=_kind(error))
    return Start(
        step_id=step_id,
        type=work.type,
        payload=payload,
        max_retries=work.max_retries,
        timeout=work.timeout,
        backoff=work.backoff,
        queue=step.queue,
        priority=step.priority,
        compensates=view.states[step.id].task_id,
    )
