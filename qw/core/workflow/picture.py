"""Draws a workflow in the requested format."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qw.core.workflow.run import StepStatus
    from qw.core.workflow.workflow import Workflow


class PictureForm(StrEnum):
    ASCII = "ascii"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


def drawn(workflow: Workflow, statuses: Mapping[str, StepStatus], format: PictureForm) -> str:
    """Return a diagram of the steps of *workflow* and their needs; *statuses* marks the steps of a run."""
    from qw.core.workflow import diagram, drawing  # imported only when needed

    draw = {
        PictureForm.ASCII: diagram.as_text,
        PictureForm.MERMAID: diagram.as_mermaid,
        PictureForm.DOT: diagram.as_dot,
        PictureForm.SVG: drawing.as_svg,
    }[format]
    return draw(workflow, statuses)
