"""``qw task edit`` and ``qw task move``: change waiting tasks."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import needs
from qw.cli.options.completions import queue_names, task_ids
from qw.cli.output.records import say
from qw.cli.output.text import counted
from qw.core.errors import Conflict, Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from uuid import UUID

    from qw.client import Client, Task
    from qw.core.task.payload import JsonObject

_Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Move to this queue.", autocompletion=queue_names)]
_Priority = Annotated[
    int | None, typer.Option("--priority", "-p", min=0, max=9, help="Priority, 0 to 9; lower numbers run first.")
]
_KEYS = ("queue", "priority", "at", "payload")


def add_edit_verbs(app: typer.Typer) -> None:
    """Add these commands to *app*."""
    app.command(
        "edit", cls=needs(Right.OPERATE), epilog="Example: qw task edit $(qw enqueue noop --in 1h) --in 2h -p 1"
    )(edit)
    app.command("move", cls=needs(Right.OPERATE), epilog="Example: qw task move --front $(qw enqueue noop --in 1h)")(
        move
    )


def edit(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="Task id, or a unique prefix of it.", autocompletion=task_ids)
    ],
    queue: _Queue = None,
    priority: _Priority = None,
    delay: Annotated[
        str | None, typer.Option("--in", metavar="DURATION", help="Run after this delay from now: 30s, 10m, 2h.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Run at this time (local unless it has an offset), or now."),
    ] = None,
    payload: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="New payload: a JSON object.")] = None,
) -> None:
    """Change a waiting task: its queue, priority, time or payload. Without options, in your editor."""
    from qw.cli.options.values import delay as delay_of
    from qw.cli.options.values import json_object, moment
    from qw.cli.session import with_client
    from qw.clock import clock

    if delay is not None and at is not None:
        raise Invalid("give --in or --at, not both")
    later = delay_of(delay, "--in")
    changes: dict[str, Any] = {
        "queue": queue,
        "priority": priority,
        "payload": None if payload is None else json_object(payload, "--payload"),
        "run_at": moment(at, "--at") if later is None else clock.now() + later,
    }
    task = with_client(lambda client: _task(client, id))
    if all(value is None for value in changes.values()):
        changes = _edited(task)
        if not changes:
            say(f"task {task.id} stays as it is")
            return
    with_client(lambda client: client.tasks.edit(task.id, **changes))
    say(f"task {task.id} is changed; see: qw task show {task.id}")


def move(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Task ids or unique prefixes.", autocompletion=task_ids)
    ],
    front: Annotated[
        bool,
        typer.Option(
            "--front", help="Move before all other tasks of their queue and priority, and remove their delay."
        ),
    ] = False,
    queue: _Queue = None,
) -> None:
    """Move waiting tasks to the front of their queue, or to another queue."""
    from qw.cli.session import with_client

    if not front and queue is None:
        raise Invalid("no target given: use --front, --queue NAME, or both")
    moved = with_client(lambda client: _move(client, ids, front, queue))
    say(f"{counted(moved, 'task')} moved")


async def _task(client: Client, word: str) -> Task:
    return await client.tasks.get(await client.tasks.resolve(word))


async def _move(client: Client, words: list[str], front: bool, queue: str | None) -> int:
    """Move the tasks; the first id given ends up first in the queue."""
    from qw.cli.options.selection import ids_of
    from qw.client import Status
    from qw.clock import clock

    ids: list[UUID] = await ids_of(client, words)
    for id in ids if len(ids) > 1 else []:
        task = await client.tasks.get(id)
        if task.status.is_final or task.status is Status.PROCESSING:
            raise Conflict(f"task {id} is {task.status}; only waiting tasks can be moved; nothing was moved")
    for id in reversed(ids):
        await client.tasks.edit(id, queue=queue, front=front, run_at=clock.now() if front else None)
    return len(ids)


def _edited(task: Task) -> JsonObject:
    """Return the changes made in the editor. Raise Invalid for fields that a task does not have."""
    import yaml

    from qw.cli.editor import edited_text
    from qw.cli.options.values import moment
    from qw.cli.output.records import record

    before = {
        "queue": task.queue,
        "priority": task.priority,
        "at": task.run_at.astimezone().isoformat(timespec="seconds") if task.run_at else None,
        "payload": record(task.payload),
    }
    text = yaml.safe_dump(before, allow_unicode=True, sort_keys=False)
    path, after = edited_text(text, f"{task.id}.yaml")
    try:
        value = yaml.safe_load(after)
    except yaml.YAMLError as error:
        raise Invalid(f"{path}: {str(error).splitlines()[0]}; nothing was changed") from None
    if not isinstance(value, dict) or set(value) - set(_KEYS):
        raise Invalid(f"{path}: only the keys {', '.join(_KEYS)} are allowed; nothing was changed")
    changed: dict[str, Any] = {key: value[key] for key in value if value[key] != before[key]}
    if "at" in changed:
        start_text = changed.pop("at")
        is_time = isinstance(start_text, datetime)
        changed["run_at"] = start_text.astimezone() if is_time else moment(str(start_text or "now"), "at")
    Path(path).unlink()
    return changed
