"""What each action does to the state of its step or its run. Used wherever actions are planned, stored or simulated."""

from __future__ import annotations

from dataclasses import replace

from qw.core.workflow.run import (
    QUEUED,
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
    Hold,
    Launch,
    Mark,
    Pause,
    Run,
    Skip,
    Start,
    StartRun,
    StepAction,
    StepState,
    StepStatus,
    UndoRun,
    UndoRuns,
    Wait,
)


def run_after(run: Run, action: Action) -> Run:
    """Return the run after *action*; unchanged by most actions of a step."""
    match action:
        case Hold():
            return replace(run, detail=QUEUED)
        case Mark():
            return replace(run, detail=action.detail, error=action.error, error_kind=action.error_kind)
        case Finish():
            ended = replace(run, status=action.status, detail=action.detail, output=action.output)
            return replace(ended, error=action.error, error_kind=action.error_kind)
        case End(signals=taken) if taken:
            return replace(run, signals=tuple(signal for signal in run.signals if signal.id not in taken))
    return run


def step_after(state: StepState, action: StepAction) -> StepState:
    """Return the step after *action*, without its place in the order of ends. A step that never started is pending.

    `Gather` changes nothing: its outcome is known once the results are collected.
    """
    match action:
        case Start(round=round_) | StartRun(round=round_):
            state = state._replace(error=None, error_kind=None)
            return _running(state._replace(rounds=round_ or 0, is_answered=False, due_at=None))
        case Again(round=round_):
            return state._replace(rounds=round_, is_answered=False, due_at=None)
        case Pause(until=until):
            return state._replace(due_at=until)
        case Accept():
            return state._replace(status=StepStatus.COMPLETED, is_answered=False)
        case UndoRun(child=child):
            return _running(state._replace(child_id=child))
        case UndoRuns():
            return _running(state._replace(items=Counts(total=0)))
        case Wait(until=until, shown=shown):
            return _running(state._replace(due_at=until, result=shown))
        case Expand(items=items):
            return _running(state._replace(items=Counts(total=len(items))))
        case Launch(count=count):
            assert state.items is not None
            return state._replace(items=replace(state.items, started=state.items.started + count))
        case Gather():
            return state
        case Cancel():
            return state._replace(cancel_asked=True)
        case Skip(reason=reason):
            return state._replace(status=StepStatus.SKIPPED, error=reason)
        case Fail(error=error, error_kind=kind):
            return _ended(state, End(step_id="", status=StepStatus.FAILED, error=error, error_kind=kind))
        case End():
            return _ended(state, action)


def _running(state: StepState) -> StepState:
    return state._replace(status=StepStatus.RUNNING)


def _ended(state: StepState, end: End) -> StepState:
    state = state._replace(status=end.status, result=end.result, is_answered=False)
    return state._replace(error=end.error, error_kind=end.error_kind)
