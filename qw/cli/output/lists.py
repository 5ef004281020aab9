"""Lists of tasks and runs for terminals, with descriptions of the tasks and ids shortened to unique prefixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qw.cli.output.column import Column
from qw.cli.output.records import OutputFormat, dumped, record, show_all, show_records
from qw.cli.output.tables import has_short_ids
from qw.cli.output.views import MORE_TASK_COLUMNS, RUN_COLUMNS, TASK_COLUMNS, TASK_ORDERS
from qw.core.errors import Invalid, among
from qw.core.task.command import words_of
from qw.core.task.masking import MASK, is_secret_name, masked, masked_object

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.task import Task
    from qw.store.runs import StoredRun

WHOLE = 36
_LONGEST = 100  # characters of a payload in a list


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Rows with their columns, and the length at which their ids are unique."""

    items: Sequence[Any]
    columns: Sequence[Column]
    id_length: int = WHOLE

    def show(self, output: OutputFormat, *, quiet: bool, reveal: bool = False) -> None:
        """*reveal*: JSON has the credentials in payloads and results too, for a program that waited for them."""
        if not (quiet or reveal or output is OutputFormat.TABLE):
            show_records([masked(record(item)) for item in self.items], output)
            return
        show_all(self.items, self.columns, output, quiet=quiet, id_length=self.id_length)


async def listed_tasks(
    client: Client,
    tasks: Sequence[Task],
    output: OutputFormat,
    *,
    quiet: bool = False,
    chosen: Sequence[str] | None = None,
) -> Listed:
    """Return *tasks* as a list with the columns named in *chosen*; query the database for values that only tables
    show.

    Raise Invalid for unknown column names.
    """
    if chosen is not None:
        _check_columns(chosen)
    if quiet or output is not OutputFormat.TABLE:
        return Listed(items=tasks, columns=TASK_COLUMNS)
    runs = {task.run_id for task in tasks if task.run_id}
    workflows = await client.runs.workflow_names(runs) if runs else {}
    what = Column(title="what", text=lambda task: describe(task, workflows), rank=2, loose=True)
    place = next(n for n, column in enumerate(TASK_COLUMNS) if column.title == "type") + 1
    columns = [*TASK_COLUMNS[:place], what, *TASK_COLUMNS[place:]]
    if chosen is not None:
        known = {column.title: column for column in (*columns, *MORE_TASK_COLUMNS)}
        names = list(known) if chosen == ["all"] else chosen
        columns = [replace(known[name], rank=rank) for rank, name in enumerate(names)]
    return Listed(items=tasks, columns=columns, id_length=await _length(client, [task.id for task in tasks]))


def _check_columns(chosen: Sequence[str]) -> None:
    known = ["what", *(column.title for column in (*TASK_COLUMNS, *MORE_TASK_COLUMNS))]
    if wrong := [name for name in chosen if name not in known and chosen != ["all"]]:
        raise Invalid(f"--columns: there is no column {wrong[0][:60]!r}{among(wrong[0][:60], known)}")


def sorted_tasks(tasks: Sequence[Task], by: str | None) -> Sequence[Task]:
    """Return *tasks* sorted by the column *by*, ascending, or descending after a ``-``. Tasks without a value come
    last.

    Raise Invalid for columns that cannot be sorted by.
    """
    if by is None:
        return tasks
    name = by.removeprefix("-")
    if name not in TASK_ORDERS:
        raise Invalid(f"--sort: tasks cannot be sorted by {name[:60]!r}{among(name[:60], TASK_ORDERS)}")
    keys = [(TASK_ORDERS[name](task), task) for task in tasks]
    there = sorted((pair for pair in keys if pair[0] is not None), key=lambda pair: pair[0], reverse=by != name)
    return [task for _, task in (*there, *(pair for pair in keys if pair[0] is None))]


async def listed_runs(client: Client, runs: Sequence[StoredRun], output: OutputFormat, *, quiet: bool) -> Listed:
    """Return *runs* as a list."""
    if quiet or output is not OutputFormat.TABLE:
        return Listed(items=runs, columns=RUN_COLUMNS)
    return Listed(items=runs, columns=RUN_COLUMNS, id_length=await _length(client, [run.id for run in runs]))


async def _length(client: Client, ids: Sequence[UUID]) -> int:
    return await client.tasks.unique_length(ids) if ids and has_short_ids() else WHOLE


def describe(task: Task, workflows: Mapping[UUID, str]) -> str:
    """Describe *task*: the step of its workflow, the words of its command, or the first values of its payload."""
    payload = masked_object(task.payload)
    if task.run_id is not None:
        return f"{workflows.get(task.run_id, '?')}/{task.step}"
    if task.type == "command":
        return words_of(payload)
    shown = ""
    for name, value in payload.items():
        text = MASK if is_secret_name(name) else value if isinstance(value, str) else dumped(value)
        shown = f"{shown} {text}".lstrip()
        if len(shown) > _LONGEST:
            return f"{shown[:_LONGEST]}…"
    return shown
