"""Which steps of a run that is over are done again when it is repaired; what is finished and still stands is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qw.core.errors import Conflict, Invalid, guess
from qw.core.workflow.run import RunStatus, StepState, StepStatus, compensation_id
from qw.core.workflow.workflow import Workflow


@dataclass(frozen=True, kw_only=True)
class Redo:
    """The steps (by id, compensations included) whose past is forgotten, and those of which no item is kept either."""

    steps: set[str]
    whole: set[str]


def to_redo(workflow: Workflow, status: RunStatus, states: Iterable[StepState], *, step: str | None) -> Redo:
    """What is done again; steps that need one of those are among them. Of a foreach that failed, items are kept.

    *step* None: from what failed. Otherwise from that step, whatever became of it. Raise Conflict or Invalid.
    """
    known = {state.step_id: state for state in states}
    if not status.is_final:
        raise Conflict(f"the run is {status}; only one that is over can be retried")
    if step is not None and step not in {one.id for one in workflow.steps}:
        ids = [one.id for one in workflow.steps]
        raise Invalid(f"{step[:60]!r} is not a step{guess(step[:60], ids)} There are: {', '.join(ids[:50])}")
    if step is None and status is RunStatus.COMPLETED:
        raise Conflict("the run is completed: nothing in it failed; name a step to begin from (--step)")
    again: set[str] = set()
    partly: set[str] = set()
    for one in workflow.steps:  # needs stand before those that need them
        if one.id == step or not again.isdisjoint(one.needs) or not _stands(one.id, known, workflow):
            if one.id != step and again.isdisjoint(one.needs) and not _is_undone(one.id, known):
                partly.add(one.id)
            again.add(one.id)
    again |= {id_ for id_ in known if id_ not in {one.id for one in workflow.steps}}
    return Redo(steps=again, whole=again - partly)


def _stands(step_id: str, known: dict[str, StepState], workflow: Workflow) -> bool:
    """Whether what the step did is there: it is completed and not undone, or it still runs, or its failure is borne."""
    state = known.get(step_id)
    if state is None or _is_undone(step_id, known):
        return False
    if state.status.is_bad:
        return workflow.by_id[step_id].continue_on_error
    return state.status in (StepStatus.COMPLETED, StepStatus.RUNNING)


def _is_undone(step_id: str, known: dict[str, StepState]) -> bool:
    undone = known.get(compensation_id(step_id))
    return undone is not None and undone.status is StepStatus.COMPLETED
