"""Checks a valid workflow for probable mistakes: joins that can never run."""

from __future__ import annotations

from qw.core.errors import Fault
from qw.core.workflow import Workflow
from qw.core.workflow.branches import exclusive_needs
from qw.core.workflow.join import RunIf
from qw.core.workflow.step import Step


def warnings(workflow: Workflow) -> list[Fault]:
    """Steps that can never run, as far as it can be seen; each with its path."""
    steps = workflow.document.get("steps")
    ids = [one.get("id") if isinstance(one, dict) else None for one in steps] if isinstance(steps, list) else []
    return [
        Fault(path=f"steps[{ids.index(step.id)}]", message=message)
        for step in workflow.steps
        if step.id in ids and (message := _never(step, workflow))
    ]


def _never(step: Step, workflow: Workflow) -> str | None:
    if step.run_if is RunIf.ANY_FAILED:
        if not any(workflow.by_id[need].continue_on_error for need in step.needs):
            return (
                f"step {step.id} can never run: run_if: any_failed counts failures that continue_on_error tolerates, "
                "and none of its needs has that; what runs after any other failure stands under on_failure"
            )
    elif step.run_if is RunIf.ALL_COMPLETED and (found := exclusive_needs(step, workflow.by_id)):
        return (
            f"step {step.id} can never run: it needs {found.one} and {found.other}, of which one is always skipped "
            f"({found.conditions[0]} / {found.conditions[1]}); say run_if: none_failed to run it after either"
        )
    return None


__all__ = ["warnings"]
