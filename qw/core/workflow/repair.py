"""Decides which steps a retry of a final run repeats; completed steps that were not compensated are kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from qw.core.errors import Conflict, Invalid, among, guess
from qw.core.workflow.plan_state import error_kind
from qw.core.workflow.run import COMPENSATION, RunStatus, StepState, StepStatus, compensation_id
from qw.core.workflow.step import StepKind
from qw.core.workflow.workflow import Workflow

_PREFIX = compensation_id("")


@dataclass(frozen=True, kw_only=True)
class Redo:
    """``steps``: the steps to reset (by id, compensations included). ``whole``: steps of which no item is kept either.

    ``going_on``: steps whose own runs may be retried instead of started again. ``is_back``: the steps are
    compensations, so the run continues to undo instead of going forward.
    """

    steps: set[str]
    whole: set[str]
    going_on: set[str] = field(default_factory=set)
    is_back: bool = False


def to_redo(
    workflow: Workflow,
    status: RunStatus,
    states: Iterable[StepState],
    *,
    step: str | None,
    undone: Collection[UUID] = (),
) -> Redo:
    """Return what is repeated: each step whose work is missing or undone. A failed foreach keeps its completed items.

    *step* None: start from the failed steps. A step: repeat it and all steps that need it, whatever their outcome. A
    failed compensation (``compensate:ID``, or one in ``on_failure``): repeat only that. *undone*: tasks undone by a
    task of type compensation. Raise Conflict or Invalid.
    """
    known = {state.step_id: state for state in states}
    if not status.is_final:
        raise Conflict(f"the run is {status}; only a finished run can be retried")
    if step is not None and step in compensations(workflow, known):
        failed_compensation(workflow, known, step)
        return Redo(steps={step}, whole={step}, is_back=True)
    _check_step(workflow, known, step)
    if step is None and status is RunStatus.COMPLETED:
        raise Conflict("the run completed and no step failed; to repeat a step, name it with --step")
    undone = {*undone, *_undone_by_hand(workflow, known)}
    again: set[str] = set()
    whole: set[str] = set()
    named: set[str] = set() if step is None else {step}
    for declared in workflow.steps:  # in topological order
        if not named.isdisjoint(declared.needs):
            named.add(declared.id)
        if declared.id in named or not _stands(declared.id, known, workflow, undone):
            again.add(declared.id)
        if declared.id in named or _is_undone(declared.id, known, undone):
            whole.add(declared.id)
        elif declared.kind is StepKind.WORKFLOW and declared.compensate is None and _is_half_undone(declared.id, known):
            raise Conflict(
                f"the run that step {declared.id} started is only partly undone: "
                f"retry {compensation_id(declared.id)} first, or mark it as done"
            )
    late = {id_ for id_ in known if id_ not in {declared.id for declared in workflow.steps}}
    going_on = {
        declared.id
        for declared in workflow.steps
        if declared.kind is StepKind.WORKFLOW and declared.id in again - whole
    }
    return Redo(steps=again | late, whole=whole | late, going_on=going_on)


def compensations(workflow: Workflow, known: Mapping[str, StepState]) -> list[str]:
    """Return the compensations that a run has started, in the order of the definition."""
    ids = [compensation_id(step.id) for step in workflow.steps]
    ids += [step.id for step in workflow.on_failure if step.work.type == COMPENSATION]
    return [id_ for id_ in ids if id_ in known]


def failed_compensation(workflow: Workflow, known: Mapping[str, StepState], step: str) -> StepState:
    """Return the failed compensation *step*. A step's own id means its compensation. Raise Conflict or Invalid."""
    ids = compensations(workflow, known)
    id_ = step if step in ids else compensation_id(step)
    if id_ not in ids:
        raise Invalid(f"{step[:60]!r} is not a compensation of this run{guess(step[:60], ids)}; {_listed(ids)}")
    if not known[id_].status.is_bad:
        raise Conflict(
            f"{id_} is {known[id_].status}; only a compensation that failed can be retried or marked as done"
        )
    return known[id_]


def _listed(ids: list[str]) -> str:
    return f"there are: {', '.join(ids[:50])}" if ids else "the run has no compensations"


def _check_step(workflow: Workflow, known: Mapping[str, StepState], step: str | None) -> None:
    ids = [declared.id for declared in workflow.steps]
    if step is not None and step not in ids:
        if step.startswith(_PREFIX):
            failed_compensation(workflow, known, step)
        raise Invalid(f"{step[:60]!r} is not a step{among(step[:60], ids[:50])}")


def _stands(step_id: str, known: Mapping[str, StepState], workflow: Workflow, undone: Collection[UUID]) -> bool:
    """Whether the step's work is kept: completed and not undone, still running, or a tolerated failure."""
    state = known.get(step_id)
    if state is None or _is_undone(step_id, known, undone):
        return False
    if state.status.is_bad:
        return workflow.by_id[step_id].tolerates(error_kind(state))
    return state.status in (StepStatus.COMPLETED, StepStatus.RUNNING)


def _undone_by_hand(workflow: Workflow, known: Mapping[str, StepState]) -> list[UUID]:
    """Return the tasks of all steps if a compensation in ``on_failure``, which covers them all, was marked as done."""
    late = [known.get(step.id) for step in workflow.on_failure if step.work.type == COMPENSATION]
    if not any(state and is_by_hand(state) for state in late):
        return []
    return [state.task_id for step in workflow.steps if (state := known.get(step.id)) and state.task_id]


def is_by_hand(state: StepState) -> bool:
    """Whether a compensation was marked as completed by hand."""
    is_completed = state.status is StepStatus.COMPLETED
    return is_completed and isinstance(state.result, dict) and state.result.get("byHand") is True


def _is_half_undone(step_id: str, known: Mapping[str, StepState]) -> bool:
    compensation = known.get(compensation_id(step_id))
    return compensation is not None and compensation.status.is_bad


def _is_undone(step_id: str, known: Mapping[str, StepState], undone: Collection[UUID]) -> bool:
    state, compensation = known.get(step_id), known.get(compensation_id(step_id))
    if state is not None and state.task_id is not None and state.task_id in undone:
        return True
    return compensation is not None and compensation.status is StepStatus.COMPLETED


__all__ = ["Redo", "compensations", "failed_compensation", "to_redo"]
