"""Lists of tasks and of runs as a terminal shows them: what each task does, and ids as short as they can be typed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qw.cli.output.column import Column
from qw.cli.output.records import OutputFormat, dumped, show_all
from qw.cli.output.tables import has_short_ids
from qw.cli.output.views import RUN_COLUMNS, TASK_COLUMNS
from qw.core.task.masking import MASK, is_secret_name, masked_object

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.task import Task
    from qw.store.runs import StoredRun

WHOLE = 36
_LONGEST = 100  # characters of a payload in a list


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Rows with the columns that show them, and how many characters of their ids are unique."""

    items: Sequence[Any]
    columns: Sequence[Column]
    id_length: int = WHOLE

    def show(self, output: OutputFormat, *, quiet: bool) -> None:
        show_all(self.items, self.columns, output, quiet=quiet, id_length=self.id_length)


async def listed_tasks(client: Client, tasks: Sequence[Task], output: OutputFormat, *, quiet: bool = False) -> Listed:
    """*tasks* for a list; asks the database for what only a table shows."""
    if quiet or output is not OutputFormat.TABLE:
        return Listed(items=tasks, columns=TASK_COLUMNS)
    runs = {task.run_id for task in tasks if task.run_id}
    workflows = await client.runs.workflow_names(runs) if runs else {}
    what = Column(title="what", text=lambda task: describe(task, workflows), rank=2, loose=True)
    place = next(n for n, column in enumerate(TASK_COLUMNS) if column.title == "type") + 1
    columns = [*TASK_COLUMNS[:place], what, *TASK_COLUMNS[place:]]
    return Listed(items=tasks, columns=columns, id_length=await _length(client, [task.id for task in tasks]))


async def listed_runs(client: Client, runs: Sequence[StoredRun], output: OutputFormat, *, quiet: bool) -> Listed:
    """*runs* for a list."""
    if quiet or output is not OutputFormat.TABLE:
        return Listed(items=runs, columns=RUN_COLUMNS)
    return Listed(items=runs, columns=RUN_COLUMNS, id_length=await _length(client, [run.id for run in runs]))


async def _length(client: Client, ids: Sequence[UUID]) -> int:
    return await client.tasks.unique_length(ids) if ids and has_short_ids() else WHOLE


def describe(task: Task, workflows: Mapping[UUID, str]) -> str:
    """What *task* does: the step of its workflow, the words of its command, or the first values of its payload."""
    payload = masked_object(task.payload)
    if task.run_id is not None:
        return f"{workflows.get(task.run_id, '?')}/{task.step}"
    if task.type == "command":
        if isinstance(argv := payload.get("argv"), list):
            return shlex.join(map(str, argv))
        return str(payload.get("run") or payload.get("command") or "").strip()
    shown = ""
    for name, value in payload.items():
        text = MASK if is_secret_name(name) else value if isinstance(value, str) else dumped(value)
        shown = f"{shown} {text}".lstrip()
        if len(shown) > _LONGEST:
            return f"{shown[:_LONGEST]}…"
    return shown
