"""How tasks, runs, queues and workers look in tables and on a page of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qw.cli.output.column import Column
from qw.cli.output.records import OutputFormat, dumped, record, show_record
from qw.cli.output.text import ago, clock, printable, span
from qw.clock import clock as database_clock
from qw.core.task.masking import masked, masked_object

if TYPE_CHECKING:
    from uuid import UUID

    from qw.client import Client
    from qw.core.task import Attempt, Task
    from qw.store.tasks import LogLine


_SHOWN_LINES = 20  # of a log, on the page of its task


def _detail(task: Task) -> str:
    if task.error:
        return task.error
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
    Column(title="error", text=lambda run: run.error or "", rank=2, loose=True),
)

STEP_COLUMNS: Sequence[Column] = (
    Column(title="step", text=lambda step: step.step),
    Column(title="type", text=lambda step: step.type, rank=2),
    Column(title="status", text=lambda step: str(step.status), is_status=True),
    Column(title="started", text=lambda step: clock(step.started_at), rank=3),
    Column(title="took", text=lambda step: took(step), rank=1, right=True),
    Column(title="error", text=lambda step: step.error or "", rank=4, loose=True),
)

# Of attempts that are over, and of a task for its last one.
ATTEMPT_COLUMNS: Sequence[Column] = (
    Column(title="attempt", text=lambda attempt: str(attempt.attempt), right=True),
    Column(title="outcome", text=lambda attempt: _outcome(attempt), is_status=True),
    Column(title="worker", text=lambda attempt: _number(attempt.worker), rank=2, right=True),
    Column(title="started", text=lambda attempt: clock(attempt.started_at) if attempt.started_at else "", rank=1),
    Column(title="took", text=lambda attempt: took(attempt), rank=3, right=True),
    Column(title="error", text=lambda attempt: attempt.error or "", loose=True),
)


def took(item: Any) -> str:
    """How long a task, attempt, run or step took, or has been running so far."""
    if item.started_at is None:
        return ""
    end = item.ended_at if hasattr(item, "ended_at") else item.finished_at
    return span((end or database_clock.now()) - item.started_at)


def _outcome(attempt: Any) -> str:
    return str(attempt.outcome if hasattr(attempt, "outcome") else attempt.status)


def _number(worker: int | None) -> str:
    return "" if worker is None else str(worker)


async def show_task(client: Client, word: str, output: OutputFormat) -> None:
    """The page of one task."""
    id = await client.tasks.resolve(word)
    task, attempts, lines = _shown(await client.tasks.get(id)), await client.tasks.attempts(id), await _log(client, id)
    if output is not OutputFormat.TABLE:
        show_record({**record(task), "attempts": record(attempts), "log": record(lines)}, output)
        return
    print_fields(_fields(task))
    _print_attempts(task, attempts)
    _print_log(lines, task.id)


def _shown(task: Task) -> Task:
    """Without the credentials in its payload and its result."""
    return replace(task, payload=masked_object(task.payload), result=masked(task.result))


async def _log(client: Client, id: UUID) -> list[LogLine]:
    """All lines, which come in pages. What one attempt may log is capped."""
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
        "undoes": str(task.parent_id) if task.parent_id else "",
        "waits for": task.reason if task.reason not in (None, "time") else "",
        "payload": dumped(record(task.payload)),
        "result": "" if task.result is None else dumped(record(task.result)),
        "error": task.error or "",
    }
    return {name: text for name, text in shown.items() if text}


def at(moment: datetime | None) -> str:
    return f"{clock(moment)}, {ago(moment)}" if moment else ""


def print_fields(fields: dict[str, str]) -> None:
    """Names and values; the status in its colour."""
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


def _print_log(lines: Sequence[LogLine], id: UUID) -> None:
    """The last of them; where there are more, how to see those."""
    from qw.cli.tail import print_line

    if lines:
        print()
    if len(lines) > _SHOWN_LINES:
        print(f"… lines before these: qw logs {id}")
    for line in lines[-_SHOWN_LINES:]:
        print_line(line)
