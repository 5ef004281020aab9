"""``qw enqueue``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, verbs
from qw.cli.options.completions import type_names
from qw.cli.options.new_task import At, Delay, Key, MaxRetries, Priority, Queue
from qw.cli.output.records import Output, OutputFormat, Quiet, dumped, record, say, show_record
from qw.core.errors import Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from uuid import UUID

    from qw.cli.options.task_options import TaskOptions
    from qw.client import Client

app = verbs()


@app.command(
    cls=needs(Right.ENQUEUE),
    epilog="""Example: qw enqueue http_request --payload '{"url": "https://example.org"}' --in 10m --wait""",
)
def enqueue(
    type: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="Task type, such as http_request.", autocompletion=type_names)
    ] = None,
    payload: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="Payload: a JSON object; @FILE reads a file, - reads stdin."),
    ] = None,
    queue: Queue = None,
    priority: Priority = None,
    delay: Delay = None,
    at: At = None,
    key: Key = None,
    on_conflict: Annotated[
        str, typer.Option("--on-conflict", metavar="error|skip|replace", help="What to do if the unique key is in use.")
    ] = "error",
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            help="Idempotency key: within its retention, repeating the command returns the first task.",
        ),
    ] = None,
    max_retries: MaxRetries = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Timeout per attempt. Default: that of the type.")
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="UUID",
            help="Task id (UUIDv7). Repeating the command with the same id creates no second task.",
        ),
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read many tasks from stdin, one JSON object per line.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until the task has finished; exit 1 if it failed.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log of the task until it has finished.")
    ] = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Enqueue a task and print its id.

    With --stdin, each line is a JSON object with "payload" and, to override the options, "type", "queue",
    "priority", "in", "at", "key", "idempotency_key", "max_retries", "timeout" or "id".
    """
    from qw.cli.options.task_options import TaskOptions
    from qw.cli.session import with_client

    wanted = TaskOptions(
        type=type,
        values={
            "queue": queue, "priority": priority, "delay": delay, "run_at": at, "unique_key": key,
            "idempotency_key": idempotency_key, "max_retries": max_retries, "timeout": timeout, "id": id,
        },
    )  # fmt: skip
    if on_conflict not in ("error", "skip", "replace"):
        raise Invalid(f"--on-conflict: {on_conflict!r} is not error, skip or replace")
    if stdin:
        _check_many(payload, id, wait or follow, on_conflict)
        from qw.cli.options.stdin import enqueue_lines

        with_client(lambda client: enqueue_lines(client, wanted, output, quiet=quiet), creates=True)
        return
    from qw.cli.options.values import json_object

    if wanted.type is None:
        raise Invalid('no task type given: use qw enqueue TYPE, or a "type" in each line of --stdin')
    content = json_object(payload, "--payload")
    code = with_client(
        lambda client: _one(client, wanted, content, on_conflict, output, (quiet, wait, follow)), creates=True
    )
    raise typer.Exit(code)


def _check_many(payload: str | None, id: str | None, waits: bool, on_conflict: str) -> None:
    options = {"--payload": payload, "--id": id, "--wait and --follow": waits, "--on-conflict": on_conflict != "error"}
    if names := [name for name, value in options.items() if value]:
        raise Invalid(f"{', '.join(names)} cannot be given with --stdin")


async def _one(
    client: Client,
    wanted: TaskOptions,
    payload: object,
    on_conflict: str,
    output: OutputFormat,
    how: tuple[bool, bool, bool],
) -> int:
    from dataclasses import replace

    from qw.core.task.payload import raise_faults

    quiet, wait, follow = how
    task = wanted.one(payload)
    await check_extra(client, task.type)
    if client.checks_tasks:  # checks also if no worker has registered types
        raise_faults(iter((await client.tasks.known_types()).faults(task)))
        task = replace(task, is_checked=True)
    done = await client.enqueue_task(task, on_conflict=on_conflict)  # type: ignore[arg-type]
    if not (wait or follow):
        show_record(done, output) if output is not OutputFormat.TABLE and not quiet else print(done.id)
        if not done.is_new:
            say(f"{done.id} already existed")
        return 0
    return await _to_the_end(client, done.id, output, quiet=quiet, follow=follow)


async def _to_the_end(client: Client, id: UUID, output: OutputFormat, *, quiet: bool, follow: bool) -> int:
    from qw.cli import tail

    if output is OutputFormat.TABLE or quiet:
        print(id, flush=True)
    task = await client.tasks.get(id)
    if not task.status.is_final:
        await tail.say_if_nobody_takes(client, task.type, task.queue)
    show = tail.print_line if follow else lambda line: None
    task = await tail.follow(client, id, tail.LogCursor(), show)
    if output is not OutputFormat.TABLE and not quiet:
        show_record(task, output)
    elif not quiet and task.result is not None:
        print(dumped(record(task.result), indent=2))
    tail.say_end(task)
    return tail.exit_code(task)


async def check_extra(client: Client, type: str) -> None:
    """Raise Invalid for a task type whose extra is installed neither here nor at any worker."""
    from importlib.util import find_spec

    if type == "data_processing" and find_spec("duckdb") is None:
        workers = await client.workers.all()
        if not any(type in worker.types for worker in workers):
            raise Invalid("data_processing needs DuckDB where the daemon runs: pip install 'qw[data]'")
