"""Workflows: their definitions, and the decisions about the next actions of a run."""

from qw.core.workflow.workflow import MAX_STEPS, Workflow, check_input, parse_workflow

__all__ = ["MAX_STEPS", "Workflow", "check_input", "parse_workflow"]
