"""A workflow: its definition, and what a run of it does next."""

from qw.core.workflow.workflow import MAX_STEPS, Workflow, check_input, parse_workflow

__all__ = ["MAX_STEPS", "Workflow", "check_input", "parse_workflow"]
