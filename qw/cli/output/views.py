"""Tables and detail views of tasks, runs, queues and workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from qw.cli.output.column import Column
from qw.cli.output.records import OutputFormat, dumped, record, show_record
from qw.cli.output.text import ago, clock, printable, span
from qw.clock import clock as database_clock
from qw.core.task.masking import masked, masked_error, masked_object

if TYPE_CHECKING:
    from uuid import UUID

    from qw.client import Client
    from qw.core.task import Attempt, Task
    from qw.core.task.checkpoint import Checkpoint
    from qw.store.tasks import LogLine


_SHOWN_LINES = 20  # log lines on the page of a task


def _detail(task: Task) -> str:
    if task.error:
        return masked_error(task.error) or ""
    if task.run_at is not None and not task.status.is_final:
        return (
            f"{task.reason}, due {ago(task.run_at)}" if task.reason not in (None, "time") else f"due {ago(task.run_at)}"
        )
    return ""


TASK_COLUMNS: Sequence[Column] = (
    Column(title="id", text=lambda task: str(task.id), is_id=True),
    Column(title="status", text=lambda task: str(task.status), is_status=True),
    Column(title="type", text=lambda task: task.type, rank=3),
    Column(title="queue", text=lambda task: task.queue, rank=6),
    Column(title="attempt", text=lambda task: str(task.attempt), rank=5, right=True),
    Column(title="created", text=lambda task: ago(task.created_at), rank=4, right=True),
    Column(title="took", text=lambda task: took(task), rank=7, right=True),
    Column(title="detail", text=lambda task: _detail(task), rank=1, loose=True, least=24),
)

# Columns of task lists that are shown only on request.
MORE_TASK_COLUMNS: Sequence[Column] = (
    Column(title="priority", text=lambda task: str(task.priority), right=True),
    Column(title="due", text=lambda task: ago(task.run_at), right=True),
    Column(title="started", text=lambda task: clock(task.started_at) if task.started_at else ""),
    Column(title="finished", text=lambda task: clock(task.finished_at) if task.finished_at else ""),
    Column(title="worker", text=lambda task: _number(task.worker), right=True),
    Column(title="key", text=lambda task: task.unique_key or ""),
    Column(title="run", text=lambda task: str(task.run_id or ""), is_id=True),
    Column(title="error", text=lambda task: masked_error(task.error) or "", loose=True, least=24),
)

TASK_ORDERS: Mapping[str, Callable[[Any], Any]] = {
    "id": lambda task: task.id,
    "created": lambda task: task.created_at,
    "started": lambda task: task.started_at,
    "finished": lambda task: task.finished_at,
    "due": lambda task: task.run_at,
    "took": lambda task: _lasted(task),
    "status": lambda task: str(task.status),
    "type": lambda task: task.type,
    "queue": lambda task: task.queue,
    "priority": lambda task: task.priority,
    "attempt": lambda task: task.attempt,
    "error": lambda task: task.error,
}

RUN_COLUMNS: Sequence[Column] = (
    Column(title="id", text=lambda run: str(run.id), is_id=True),
    Column(
        title="status",
        text=lambda run: f"{run.status} ({run.detail})" if run.detail else str(run.status),
        is_status=True,
    ),
    Column(title="workflow", text=lambda run: run.workflow, rank=1),
    Column(title="created", text=lambda run: ago(run.created_at), rank=3, right=True),
    Column(title="took", text=lambda run: took(run), rank=4, right=True),
    Column(title="error", text=lambda run: masked_error(run.error) or "", rank=2, loose=True),
)

STEP_COLUMNS: Sequence[Column] = (
    Column(title="step", text=lambda step: step.step),
    Column(title="type", text=lambda step: step.type, rank=2),
    Column(title="status", text=lambda step: str(step.status), is_status=True),
    Column(title="started", text=lambda step: clock(step.started_at), rank=3),
    Column(title="took", text=lambda step: took(step), rank=1, right=True),
    Column(title="error", text=lambda step: masked_error(step.error) or "", rank=4, loose=True),
)

# For finished attempts, and for the last attempt of a task.
ATTEMPT_COLUMNS: Sequence[Column] = (
    Column(title="attempt", text=lambda attempt: str(attempt.attempt), right=True),
    Column(title="outcome", text=lambda attempt: _outcome(attempt), is_status=True),
    Column(title="worker", text=lambda attempt: _number(attempt.worker), rank=2, right=True),
    Column(title="started", text=lambda attempt: clock(attempt.started_at) if attempt.started_at else "", rank=1),
    Column(title="took", text=lambda attempt: took(attempt), rank=3, right=True),
    Column(title="error", text=lambda attempt: masked_error(attempt.error) or "", loose=True),
)


CHECKPOINT_COLUMNS: Sequence[Column] = (
    Column(title="checkpoint", text=lambda checkpoint: str(checkpoint.key), loose=True),
    Column(title="kind", text=lambda checkpoint: str(checkpoint.kind), rank=1),
    Column(title="outcome", text=lambda checkpoint: checkpoint.outcome or "waiting", is_status=True),
    Column(title="since", text=lambda checkpoint: clock(checkpoint.at), rank=2),
    Column(title="due", text=lambda checkpoint: clock(checkpoint.due_at) if checkpoint.due_at else "", rank=3),
    Column(title="result", text=lambda checkpoint: _of_checkpoint(checkpoint), rank=4, loose=True),
)


def _of_checkpoint(checkpoint: Checkpoint) -> str:
    if checkpoint.outcome == "completed":
        return "" if checkpoint.value is None else dumped(record(checkpoint.value))
    return checkpoint.error or (f"task {checkpoint.child_id}" if checkpoint.child_id else "")


def took(item: Any) -> str:
    """Return how long a task, attempt, run or step took, or has been running."""
    lasted = _lasted(item)
    return "" if lasted is None else span(lasted)


def _lasted(item: Any) -> timedelta | None:
    if item.started_at is None:
        return None
    end: datetime | None = item.ended_at if hasattr(item, "ended_at") else item.finished_at
    lasted: timedelta = (end or database_clock.now()) - item.started_at
    return lasted


def _outcome(attempt: Any) -> str:
    return str(attempt.outcome if hasattr(attempt, "outcome") else attempt.status)


def _number(worker: int | None) -> str:
    return "" if worker is None else str(worker)


async def show_task(client: Client, word: str, output: OutputFormat) -> None:
    """Print the details of one task."""
    id = await client.tasks.resolve(word)
    task, lines = _shown(await client.tasks.get(id)), await _log(client, id)
    attempts = [replace(attempt, error=masked_error(attempt.error)) for attempt in await client.tasks.attempts(id)]
    checkpoints = [
        replace(checkpoint, value=masked(checkpoint.value), error=masked_error(checkpoint.error))
        for checkpoint in await client.tasks.checkpoints(id)
    ]
    if output is not OutputFormat.TABLE:
        parts = {"attempts": record(attempts), "checkpoints": record(checkpoints), "log": record(lines)}
        show_record({**record(task), **parts}, output)
        return
    print_fields(_fields(task))
    _print_attempts(task, attempts)
    _print_checkpoints(checkpoints)
    _print_log(lines, task.id)


def _shown(task: Task) -> Task:
    """Return the task with credentials masked in its payload, result and error."""
    payload, result = masked_object(task.payload), masked(task.result)
    return replace(task, payload=payload, result=result, error=masked_error(task.error))


async def _log(client: Client, id: UUID) -> list[LogLine]:
    """Return all lines of the log, reading it page by page. The size of one attempt's log is limited."""
    lines = await client.tasks.logs(id)
    while page := await client.tasks.logs(id, after=lines[-1].id) if lines else []:
        lines += page
    return lines


def _fields(task: Task) -> dict[str, str]:
    shown = {
        "task": str(task.id),
        "status": str(task.status),
        "type": task.type,
        "queue": f"{task.queue}, priority {task.priority}",
        "attempt": f"{task.attempt}, {task.retries} failed of at most {task.max_retries}"
        + (f", {task.crashes} crashed" if task.crashes else ""),
        "timeout": "none" if task.timeout is None else span(task.timeout),
        "created": at(task.created_at),
        "due": at(task.run_at),
        "started": at(task.started_at),
        "finished": at(task.finished_at),
        "took": took(task),
        "worker": _number(task.worker),
        "key": task.unique_key or "",
        "run": f"{task.run_id}, step {task.step}" if task.run_id else "",
        "undoes" if task.type == "compensation" else "called by": str(task.parent_id) if task.parent_id else "",
        "waits for": task.reason if task.reason not in (None, "time") else "",
        "payload": dumped(record(task.payload)),
        "result": "" if task.result is None else dumped(record(task.result)),
        "error": task.error or "",
        "error kind": task.error_kind or "",
    }
    return {name: text for name, text in shown.items() if text}


def at(moment: datetime | None) -> str:
    return f"{clock(moment)}, {ago(moment)}" if moment else ""


def print_fields(fields: dict[str, str]) -> None:
    """Print names and values; the status in its colour."""
    from rich.text import Text

    from qw.cli.output.tables import STYLES, print_value

    width = max(map(len, fields))
    for name, text in fields.items():
        style = STYLES.get(text.split(" ")[0], "") if name == "status" else ""
        print_value(Text(f"{name:{width}}  ", style="bold"), Text(printable(text), style=style))


def _print_attempts(task: Task, earlier: Sequence[Attempt]) -> None:
    from qw.cli.output.tables import print_table

    if earlier:
        print()
        print_table(ATTEMPT_COLUMNS, [*earlier, *([task] if task.started_at else [])])


def _print_checkpoints(checkpoints: Sequence[Checkpoint]) -> None:
    from qw.cli.output.tables import print_table

    if checkpoints:
        print()
        print_table(CHECKPOINT_COLUMNS, checkpoints)


def _print_log(lines: Sequence[LogLine], id: UUID) -> None:
    """Print the last lines of the log, and how to see the earlier ones."""
    from qw.cli.tail import print_line

    if lines:
        print()
    if len(lines) > _SHOWN_LINES:
        print(f"… lines before these: qw logs {id}")
    for line in lines[-_SHOWN_LINES:]:
        print_line(line)
