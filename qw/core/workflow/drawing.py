"""An SVG picture of a workflow: steps in rows by the longest chain of needs before them, and lines between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from qw.core.workflow.diagram import COLOURS, Statuses, caption, edges
from qw.core.workflow.run import StepStatus
from qw.core.workflow.step import Step
from qw.core.workflow.workflow import Workflow

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 190, 46, 24, 44, 16  # box size, gaps between boxes, outer margin
_LONGEST = 28  # characters that fit into a box


@dataclass(frozen=True, kw_only=True)
class _Box:
    step: Step
    x: int
    y: int


def as_svg(workflow: Workflow, statuses: Statuses | None = None) -> str:
    """Return an SVG document without scripts or external references."""
    boxes = _placed(workflow)
    width = max(box.x for box in boxes.values()) + _WIDTH + _MARGIN
    height = max(box.y for box in boxes.values()) + _HEIGHT + _MARGIN
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f"<title>{escape(workflow.name)}</title>",
        *(_line(boxes[edge.start], boxes[edge.end], edge.is_late, edge.label) for edge in edges(workflow)),
    ]
    for box in boxes.values():
        parts += _drawn(box, (statuses or {}).get(box.step.id, StepStatus.PENDING))
    return "\n".join([*parts, "</svg>"])


def _placed(workflow: Workflow) -> dict[str, _Box]:
    boxes: dict[str, _Box] = {}
    rows = list(_rows(workflow))
    widest = max(map(len, rows))
    for n, row in enumerate(rows):
        left = _MARGIN + (widest - len(row)) * (_WIDTH + _ACROSS) // 2
        for m, step in enumerate(row):
            boxes[step.id] = _Box(step=step, x=left + m * (_WIDTH + _ACROSS), y=_MARGIN + n * (_HEIGHT + _DOWN))
    return boxes


def _rows(workflow: Workflow) -> Iterator[list[Step]]:
    depth: dict[str, int] = {}
    rows: dict[int, list[Step]] = {}
    for step in workflow.steps:
        depth[step.id] = 1 + max((depth[need] for need in step.needs), default=-1)
        rows.setdefault(depth[step.id], []).append(step)
    place: dict[str, float] = {}
    for n in sorted(rows):  # a step is placed near its needs, so that few lines cross
        row = sorted(rows[n], key=lambda step: _middle(step, place))
        place |= {step.id: (m + 0.5) / len(row) for m, step in enumerate(row)}
        yield row
    yield from ([step] for step in (*workflow.on_failure, *workflow.finally_steps))


def _middle(step: Step, place: dict[str, float]) -> float:
    return sum(place[need] for need in step.needs) / len(step.needs) if step.needs else 0.0


def _drawn(box: _Box, status: StepStatus) -> Iterator[str]:
    middle = box.x + _WIDTH // 2
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{_WIDTH}" height="{_HEIGHT}" rx="7" fill="{COLOURS[status]}"'
        f' stroke="#6b7280"><title>{escape(box.step.id)}: {status}</title></rect>'
    )
    yield f'<text x="{middle}" y="{box.y + 19}" text-anchor="middle">{_short(box.step.id)}</text>'
    note = _short(caption(box.step))
    yield f'<text x="{middle}" y="{box.y + 35}" text-anchor="middle" font-size="10" fill="#4b5563">{note}</text>'


def _short(text: str) -> str:
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _line(start: _Box, end: _Box, is_late: bool, label: str) -> str:
    x1, y1, x2, y2 = start.x + _WIDTH // 2, start.y + _HEIGHT, end.x + _WIDTH // 2, end.y
    half = (y1 + y2) // 2
    dashes = ' stroke-dasharray="4 3"' if is_late else ""
    path = f"M{x1},{y1} C{x1},{half} {x2},{half} {x2},{y2 - 5}"
    arrow = f"M{x2 - 4},{y2 - 7} L{x2},{y2} L{x2 + 4},{y2 - 7} Z"
    line = f'<path d="{path}" fill="none" stroke="#6b7280"{dashes}/><path d="{arrow}" fill="#6b7280"/>'
    if not label:
        return line
    place = f'x="{x2}" y="{y2 - 12}" text-anchor="middle" font-size="9" fill="#4b5563"'
    return f"{line}<text {place}>{_short(label)}</text>"
