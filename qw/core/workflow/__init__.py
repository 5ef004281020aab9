"""A workflow: its definition, and what a run of it does next."""

from qw.core.workflow.workflow import _KEYS, MAX_STEPS, Workflow, check_input, parse_workflow

__all__ = ["MAX_STEPS", "_KEYS", "Workflow", "check_input", "parse_workflow"]
