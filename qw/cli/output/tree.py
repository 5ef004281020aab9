"""A run as a tree of lines: each step with its status, duration, and what it is or waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from qw.cli.output.records import dumped, record
from qw.cli.output.tables import STYLES, console
from qw.cli.output.text import ago, clock, counted, printable
from qw.cli.output.views import at, print_fields, took
from qw.client.run_tree import ShownItem, ShownItems, ShownRun, ShownStep
from qw.core.task.masking import masked, masked_text
from qw.core.workflow.diagram import MARKS
from qw.core.workflow.run import RunStatus, StepStatus
from qw.core.workflow.step_kinds import StepKind

_MOST_FAILED = 5  # failed steps for which a log command is shown
_LONGEST_NAME = 40  # cells of names and branches in a terminal


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the tree. ``name`` follows its branches; ``error`` is printed on its own line, after ``below``."""

    name: str
    below: str
    status: str
    took: str = ""
    note: str = ""
    error: str = ""


def as_record(run: ShownRun) -> dict[str, Any]:
    """Return the run for programs, with its steps under ``steps``, and child runs nested in the same form."""
    return {
        **record(run.run),
        "steps": [_step_record(step) for step in run.steps],
        "told": record(run.told),
    }


def _step_record(step: ShownStep) -> dict[str, Any]:
    items = step.items and {
        **record(step.items),
        "notable": [{**record(item), "run": item.run and as_record(item.run)} for item in step.items.notable],
    }
    return {**record(step), "items": items, "run": step.run and as_record(step.run)}


def print_run(shown: ShownRun) -> None:
    """Print the details of a run."""
    run = shown.run
    fields = {
        "run": str(run.id),
        "status": f"{run.status} ({run.detail})" if run.detail else str(run.status),
        "workflow": run.workflow,
        "created": at(run.created_at),
        "finished": at(run.finished_at),
        "took": took(run),
        "deadline": "" if run.status.is_final else at(run.deadline),
        "part of": str(run.parent_id or ""),
        "input": dumped(masked(record(run.input))),
        "output": "" if run.output is None else dumped(masked(record(run.output))),
        "error": masked_text(run.error or ""),
    }
    print_fields({name: text for name, text in fields.items() if text})
    print()
    _print_lines(list(_lines(shown, "")))
    for line in _next_steps(shown):
        print(printable(line))
    for told in shown.told:
        by, taken = told.sent_by or "somebody", f", taken by {told.step}" if told.step else ""
        print(printable(f"signal {told.name} from {by}, {ago(told.sent_at)}{taken}"))


def _next_steps(run: ShownRun) -> Iterator[str]:
    """Return commands that show more about a failed run or continue it."""
    if run.run.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        return
    yield ""
    failed = [step for step in run.steps if step.status is StepStatus.FAILED]
    for step in failed[:_MOST_FAILED]:
        if step.task_id:
            yield f"log of {step.step}: qw logs {step.task_id}"
        elif step.run:
            yield f"steps of {step.step}: qw workflow show {step.run.run.id}"
    yield f"restart it{' from the failed steps' if failed else ''}: qw workflow retry {run.run.id}"


def _print_lines(lines: Sequence[Line]) -> None:
    out = console()
    name_width = min(max((cell_len(line.name) for line in lines), default=0), _LONGEST_NAME if out.is_terminal else 999)
    status_width, took_width = (max((len(text) for text in texts), default=0) for texts in _columns(lines))
    for line in lines:
        name = Text(line.name)
        name.truncate(name_width, overflow="ellipsis", pad=True)
        style = STYLES.get(line.status, "")
        row = Text.assemble(
            name, "  ", (f"{line.status:<{status_width}}", style), f"  {line.took:>{took_width}}  ", line.note
        )
        _print_row(row)
        if line.error:
            _print_row(Text.assemble(f"{line.below}    ", (printable(masked_text(line.error)), "red")))


def _print_row(row: Text) -> None:
    out = console()
    row.rstrip()
    row.truncate(out.width, overflow="ellipsis")
    out.print(row, soft_wrap=True)


def _columns(lines: Sequence[Line]) -> Iterator[list[str]]:
    yield [line.status for line in lines]
    yield [line.took for line in lines]


def _lines(run: ShownRun, indent: str) -> Iterator[Line]:
    """Yield the steps of a run, each followed by the lines below it."""
    for n, step in enumerate(run.steps):
        branch, below = _branches(indent, is_last=n == len(run.steps) - 1)
        yield Line(
            name=f"{branch}{MARKS[step.status]} {step.step}",
            below=below,
            status=step.state or str(step.status),
            took=took(step) if step.status is not StepStatus.SKIPPED else "",
            note=printable(", ".join(_notes(step))),
            error="" if step.status is StepStatus.SKIPPED or (step.run and step.run.steps) else step.error or "",
        )
        if step.run:
            yield from _lines(step.run, f"{below}  ")
        if step.items:
            yield from _item_lines(step.items, f"{below}  ")


def _branches(indent: str, *, is_last: bool) -> tuple[str, str]:
    """Return the branches drawn before a line and before the lines below it. Steps of the top run have none."""
    if not indent:
        return "", ""
    return f"{indent}{'└' if is_last else '├'} ", f"{indent}{' ' if is_last else '│'} "


def _item_lines(items: ShownItems, indent: str) -> Iterator[Line]:
    for n, item in enumerate(items.notable):
        branch, below = _branches(indent, is_last=n == len(items.notable) - 1)
        yield Line(
            name=f"{branch}{MARKS[StepStatus(item.status)]} item {item.item}",
            below=below,
            status=item.status,
            took=took(item.run.run) if item.run else "",
            note=_started(item),
            error="" if item.run and item.run.steps else item.error or "",
        )
        if item.run:
            yield from _lines(item.run, f"{below}  ")


def _started(item: ShownItem) -> str:
    return f"run {item.run.run.id}" if item.run else f"task {item.task_id}" if item.task_id else ""


def _notes(step: ShownStep) -> Iterator[str]:
    """Return what the step is, its number of attempts, its progress, and what it waits for."""
    yield f"{step.type} {step.run.run.workflow}" if step.run else step.type
    if step.rounds and step.rounds > 1:
        yield counted(step.rounds, "round")
    elif step.attempts and step.attempts > 1:
        yield counted(step.attempts, "attempt")
    if step.items:
        yield f"{step.items.completed:,} of {step.items.total:,} items"
        if step.items.failed:
            yield f"{step.items.failed:,} failed"
    if step.status is StepStatus.SKIPPED and step.error:
        yield step.error
    if step.status is StepStatus.RUNNING:
        yield from _waits(step)
    if step.type == StepKind.SWITCH and isinstance(step.result, list):
        yield f"chose {', '.join(map(str, step.result)) or 'no step'}"
    if step.type == StepKind.APPROVAL and step.status is StepStatus.COMPLETED and isinstance(step.result, dict):
        yield f"approved by {step.result.get('by') or 'somebody'}"
    if step.waits_for:
        yield f"waits for {', '.join(step.waits_for)}"


def _waits(step: ShownStep) -> Iterator[str]:
    if step.type == StepKind.SIGNAL:
        yield f"waits for signal {step.signal}" if step.signal else "waits for a signal"
    elif step.type == StepKind.APPROVAL:
        message = step.result.get("message") if isinstance(step.result, dict) else None
        yield f"waits for approval: {message}" if message else "waits for approval"
    if step.due_at:
        yield f"{_until(step)} {_moment(step.due_at)}"


def _until(step: ShownStep) -> str:
    return "again" if step.state == "retrying" or step.rounds else "until"


def _moment(moment: datetime) -> str:
    return f"{clock(moment)}, {ago(moment)}"
