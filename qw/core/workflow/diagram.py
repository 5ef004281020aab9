"""Text diagrams of a workflow: a tree for terminals, Mermaid, DOT. *statuses* adds the step statuses of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from qw.core.workflow.join import RunIf
from qw.core.workflow.run import StepStatus
from qw.core.workflow.step import Step, StepKind
from qw.core.workflow.workflow import Workflow

Statuses = Mapping[str, StepStatus]

MARKS: Mapping[StepStatus, str] = {
    StepStatus.PENDING: "○",
    StepStatus.RUNNING: "◐",
    StepStatus.COMPLETED: "●",
    StepStatus.FAILED: "✗",
    StepStatus.SKIPPED: "–",
    StepStatus.CANCELLED: "⊘",
}
COLOURS: Mapping[StepStatus, str] = {
    StepStatus.PENDING: "#f3f4f6",
    StepStatus.RUNNING: "#dbeafe",
    StepStatus.COMPLETED: "#dcfce7",
    StepStatus.FAILED: "#fee2e2",
    StepStatus.SKIPPED: "#e5e7eb",
    StepStatus.CANCELLED: "#fef3c7",
}


def caption(step: Step) -> str:
    """Describe a step in a few words."""
    words = [step.work.type]
    if step.items:
        words.append("for each" if not step.items.is_matrix else "matrix")
    if step.repeat:
        words.append(f"repeat {step.repeat.title}")
    if step.run_if is not RunIf.ALL_COMPLETED:
        words.append(f"run if {step.run_if.replace('_', ' ')}")
    if step.condition:
        words.append("if")
    if step.continue_on_error:
        words.append("may fail")
    if step.compensate:
        words.append(f"undo: {step.compensate.type}")
    return ", ".join(words)


def as_text(workflow: Workflow, statuses: Statuses | None = None) -> str:
    """Return a tree: a step is below the last of its needs; its other needs are named beside it."""
    lines = list(_tree(workflow, statuses or {}))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {note}".rstrip() for name, note in lines)


def _tree(workflow: Workflow, statuses: Statuses) -> Iterator[tuple[str, str]]:
    place = {step.id: n for n, step in enumerate(workflow.steps)}
    below: dict[str | None, list[Step]] = {}
    for step in workflow.steps:
        parent = max(step.needs, key=place.__getitem__, default=None)
        below.setdefault(parent, []).append(step)
    stack = [(step, "", True, True) for step in reversed(below.get(None, []))]
    while stack:  # no recursion: the tree may be 1,000 levels deep
        step, indent, is_last, is_root = stack.pop()
        branch = "" if is_root else "└─" if is_last else "├─"
        others = [need for need in step.needs if need != max(step.needs, key=place.__getitem__)]
        note = caption(step) + "".join(f"  [{label(workflow, switch, step)}]" for switch in step.switches)
        note += f"  ← also {', '.join(others)}" if others else ""
        yield f"{indent}{branch}{_marked(step.id, statuses)}", note
        inner = indent + ("" if is_root else "  " if is_last else "│ ")
        children = below.get(step.id, [])
        stack += [(child, inner, child is children[-1], False) for child in reversed(children)]
    for title, late in (("on_failure", workflow.on_failure), ("finally", workflow.finally_steps)):
        if late:
            yield f"{title}:", ""
            yield from ((f"  {_marked(step.id, statuses)}", caption(step)) for step in late)


def _marked(step_id: str, statuses: Statuses) -> str:
    return f"{MARKS[statuses.get(step_id, StepStatus.PENDING)]} {step_id}" if statuses else step_id


def as_mermaid(workflow: Workflow, statuses: Statuses | None = None) -> str:
    """Return a Mermaid flow chart."""
    name, lines = _names(workflow), ["flowchart TD"]
    for step in workflow.by_id.values():
        left, right = ("{{", "}}") if step.kind is not StepKind.TASK else ("[", "]")
        lines.append(f'  {name(step.id)}{left}"{_html(step.id)}<br/><small>{_html(caption(step))}</small>"{right}')
    for edge in edges(workflow):
        arrow = "-.->" if edge.is_late else f'-->|"{_html(edge.label)}"|' if edge.label else "-->"
        lines.append(f"  {name(edge.start)} {arrow} {name(edge.end)}")
    for status in dict.fromkeys((statuses or {}).values()):
        ids = [name(id_) for id_, status_ in (statuses or {}).items() if status_ is status and id_ in workflow.by_id]
        if ids:
            lines += [f"  classDef {status} fill:{COLOURS[status]}", f"  class {','.join(ids)} {status}"]
    return "\n".join(lines)


def as_dot(workflow: Workflow, statuses: Statuses | None = None) -> str:
    """Return a graph for Graphviz."""
    lines = [f"digraph {_quoted(workflow.name)} {{", '  node [shape=box, style="rounded,filled", fillcolor="#f3f4f6"];']
    for step in workflow.by_id.values():
        colour = f', fillcolor="{COLOURS[statuses[step.id]]}"' if statuses and step.id in statuses else ""
        label = _quoted(step.id + "\\n" + caption(step))
        lines.append(f"  {_quoted(step.id)} [label={label}{colour}];")
    for edge in edges(workflow):
        style = " [style=dashed]" if edge.is_late else f" [label={_quoted(edge.label)}]" if edge.label else ""
        lines.append(f"  {_quoted(edge.start)} -> {_quoted(edge.end)}{style};")
    return "\n".join([*lines, "}"])


class Edge(NamedTuple):
    """``label``: the condition of a switch's case."""

    start: str
    end: str
    is_late: bool = False
    label: str = ""


def edges(workflow: Workflow) -> Iterator[Edge]:
    """Yield edges from each need to its dependants, and between the steps of ``on_failure`` and ``finally`` (late)."""
    for step in workflow.steps:
        for need in step.needs:
            yield Edge(need, step.id, label=label(workflow, need, step) if need in step.switches else "")
    for late in (workflow.on_failure, workflow.finally_steps):
        yield from (Edge(before.id, after.id, is_late=True) for before, after in pairwise(late))


def label(workflow: Workflow, switch: str, step: Step) -> str:
    """Return the conditions of the cases of *switch* that name *step*."""
    return " / ".join(case.title for case in workflow.by_id[switch].cases if step.id in case.then)


def _names(workflow: Workflow) -> Callable[[str], str]:
    """Return numbered node names, because Mermaid reserves words like ``end``."""
    number = {id_: f"s{n}" for n, id_ in enumerate(workflow.by_id)}
    return number.__getitem__


def _html(text: str) -> str:
    return re.sub(r"[^\w .,:-]", lambda match: f"#{ord(match[0])};", text)


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
