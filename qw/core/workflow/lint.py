"""Finds probable mistakes in a valid workflow: steps that can never run, or that run after success only."""

from __future__ import annotations

from qw.core.errors import Fault
from qw.core.workflow import Workflow
from qw.core.workflow.branches import Branches
from qw.core.workflow.join import RunIf
from qw.core.workflow.step import Step


def warnings(workflow: Workflow) -> list[Fault]:
    """Return faults for steps that provably can never run, or that ``all_done`` runs after success only."""
    steps = workflow.document.get("steps")
    ids = [step.get("id") if isinstance(step, dict) else None for step in steps] if isinstance(steps, list) else []
    branches = Branches(workflow.by_id)
    return [
        Fault(path=f"steps[{ids.index(step.id)}]", message=message)
        for step in workflow.steps
        if step.id in ids and (message := _never(step, workflow, branches) or _only_after_success(step, workflow))
    ]


def _never(step: Step, workflow: Workflow, branches: Branches) -> str | None:
    if step.run_if is RunIf.ANY_FAILED:
        if not any(workflow.by_id[need].continue_on_error for need in step.needs):
            return (
                f"step {step.id} can never run: run_if: any_failed counts failures that continue_on_error tolerates, "
                "and none of its needs has that; steps that run after any other failure belong under on_failure:"
            )
    elif step.run_if is RunIf.ALL_COMPLETED and (found := branches.exclusive_needs(step)):
        return (
            f"step {step.id} can never run: it needs {found.one} and {found.other}, of which one is always skipped "
            f"({found.why}); say run_if: none_failed to run it after either"
        )
    return None


def _only_after_success(step: Step, workflow: Workflow) -> str | None:
    """Return a message if ``all_done`` waits for steps that cannot be skipped and whose failure ends the run."""
    if step.run_if is not RunIf.ALL_DONE or any(_may_end_otherwise(need, workflow) for need in step.needs):
        return None
    return (
        f"step {step.id} does not run after a failure: run_if: all_done waits for steps that are completed, skipped or "
        f"failed with continue_on_error, and {', '.join(step.needs)} can only be completed; give continue_on_error to "
        "what may fail, or put what runs at the end of every run under finally"
    )


def _may_end_otherwise(step_id: str, workflow: Workflow) -> bool:
    """Whether the step may be skipped, or fail without ending the run."""
    stack, seen = [step_id], {step_id}
    if workflow.by_id[step_id].continue_on_error:
        return True
    while stack:
        step = workflow.by_id[stack.pop()]
        if step.condition or step.switches or step.run_if is not RunIf.ALL_COMPLETED:
            return True
        stack += [need for need in step.needs if need not in seen]
        seen.update(step.needs)
    return False


__all__ = ["warnings"]
