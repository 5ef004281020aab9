"""``qw task``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, noun
from qw.cli.commands.task_edit import add_edit_verbs
from qw.cli.options.completions import task_ids
from qw.cli.options.selection import (
    All,
    BulkAction,
    DryRun,
    Error,
    Filters,
    Ids,
    Queue,
    Run,
    Since,
    State,
    Type,
    Until,
    Yes,
    asked_for,
    change,
    find_tasks,
    unknown,
)
from qw.cli.output.records import Output, OutputFormat, Quiet, record, say, show_record
from qw.cli.output.text import counted
from qw.cli.output.watch import Watch, rows_that_fit, show_or_watch
from qw.core.rights import Right

if TYPE_CHECKING:
    from uuid import UUID

    from qw.cli.output.lists import Listed
    from qw.client import Client
    from qw.client.stacks import TaskStack

app = noun("task")
add_edit_verbs(app)

Id = Annotated[str, typer.Argument(metavar="ID", help="Task id, or a unique prefix of it.", autocompletion=task_ids)]


@app.command("list", cls=needs(Right.READ), epilog="Example: qw task list --status failed,cancelled --since yesterday")
def list_tasks(
    queue: Queue = None,
    type: Type = None,
    status: State = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    run: Run = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number of rows.")] = 50,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Only tasks older than this one, for the next page.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Sort by this column; -COLUMN sorts in descending order."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="COLUMN,...", help="Columns to show, in this order, or all.")
    ] = None,
    watch: Watch = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """List tasks, newest first."""
    from qw.cli.output.lists import sorted_tasks

    filters = Filters(queue=queue, type=type, status=status, since=since, until=until, error=error, run=run)
    most = rows_that_fit(limit, watch=watch)
    chosen = None if columns is None else columns.split(",")

    async def find(client: Client) -> Listed:
        from qw.cli.output.lists import listed_tasks

        oldest = None if before is None else await client.tasks.resolve(before, path="--before")
        tasks = await find_tasks(client, filters, limit=most, before=oldest)
        if not tasks and (said := await unknown(client, filters)):
            say(f"qw: {said}")
        return await listed_tasks(client, sorted_tasks(tasks, sort), output, quiet=quiet, chosen=chosen)

    def show(listed: Listed) -> None:
        listed.show(output, quiet=quiet)
        if output is OutputFormat.TABLE and not quiet and len(listed.items) == most:
            oldest = min(task.id for task in listed.items)
            say(f"{counted(most, 'task')} shown; older ones: repeat it with --before {oldest}")

    show_or_watch(find, show, watch=watch)


@app.command("show", cls=needs(Right.READ, own=True), epilog="Example: qw task show $(qw enqueue noop)")
def show_task(id: Id, output: Output = OutputFormat.TABLE) -> None:
    """Show a task with its attempts and its log."""
    from qw.cli.output.views import show_task
    from qw.cli.session import with_client

    with_client(lambda client: show_task(client, id, output))


@app.command("retry", cls=needs(Right.OPERATE), epilog="Example: qw task retry --type noop --since 1h --yes")
def retry(
    ctx: typer.Context,
    ids: Ids = None,
    queue: Queue = None,
    type: Type = None,
    status: State = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    run: Run = None,
    all: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Retry failed, cancelled or retrying tasks now, with a fresh set of retries.

    Filters select failed tasks by default.
    """
    _change(
        BulkAction(
            verb="retry",
            done="retried",
            statuses=["failed"],
            others=["cancelled", "retrying"],
            act=lambda client, some: client.tasks.retry(some),
        ),
        ctx,
    )


@app.command("cancel", cls=needs(Right.OPERATE), epilog="Example: qw task cancel --queue mail --yes")
def cancel(
    ctx: typer.Context,
    ids: Ids = None,
    queue: Queue = None,
    type: Type = None,
    status: State = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    run: Run = None,
    all: All = False,
    running: Annotated[bool, typer.Option("--running", help="Also cancel running tasks.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Cancel waiting tasks; with --running also running ones."""
    _change(
        BulkAction(
            verb="cancel",
            done="cancelled",
            statuses=["pending", "retrying", *(["processing"] if running else [])],
            others=[] if running else ["processing"],  # answered for each task: --running is needed
            act=lambda client, some: client.tasks.cancel(some, running=running),
        ),
        ctx,
    )


@app.command(
    "signal",
    cls=needs(Right.OPERATE),
    epilog="Example: qw task list --type order --status pending --quiet | xargs -r -I ID qw task signal ID paid",
)
def signal(
    id: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Signal name, as in context.wait_signal.")],
    payload: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="Payload: any JSON value.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Name to record. Default: your user name.")
    ] = None,
) -> None:
    """Send a signal to a task. It is kept if the task's handler is not waiting for it yet."""
    from qw.cli.options.values import json_value
    from qw.cli.session import myself, with_client

    value = json_value(payload, "--payload")

    async def send(client: Client) -> UUID:
        task_id = await client.tasks.resolve(id)
        await client.tasks.signal(task_id, name, value, by=by or myself())
        return task_id

    say(f"signal {name} sent to task {with_client(send)}")


@app.command(
    "compensate", cls=needs(Right.OPERATE), epilog="Example: qw task compensate --type create_invoice --since 1h --yes"
)
def compensate(
    ctx: typer.Context,
    ids: Ids = None,
    queue: Queue = None,
    type: Type = None,
    since: Since = None,
    until: Until = None,
    run: Run = None,
    all: All = False,
    reason: Annotated[str, typer.Option(help="Reason to record.")] = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Undo completed tasks: enqueue one compensation task for each, as declared by its type."""
    _change(
        BulkAction(
            verb="compensate",
            done="to be undone",
            statuses=["completed"],
            act=lambda client, some: client.tasks.compensate(some, reason=reason),
        ),
        ctx,
    )


@app.command(
    "requeue", cls=needs(Right.OPERATE), epilog="Example: qw task requeue --type noop --status completed --dry-run"
)
def requeue(
    ctx: typer.Context,
    ids: Ids = None,
    queue: Queue = None,
    type: Type = None,
    status: State = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    run: Run = None,
    all: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Enqueue copies of finished tasks as new tasks, at most one copy of each. The old tasks stay unchanged."""
    _change(
        BulkAction(
            verb="requeue",
            done="enqueued again",
            statuses=["failed", "cancelled"],
            others=["completed"],
            act=lambda client, some: client.tasks.requeue(some),
        ),
        ctx,
    )


@app.command("remove", cls=needs(Right.OPERATE), epilog="Example: qw task remove --status completed --until 1d --yes")
def remove(
    ctx: typer.Context,
    ids: Ids = None,
    queue: Queue = None,
    type: Type = None,
    status: State = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    run: Run = None,
    all: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Delete finished tasks with their logs and attempts. Cannot be undone.

    Daemons delete finished tasks anyway after QW_RETENTION_COMPLETED or QW_RETENTION_FAILED.
    """
    _change(
        BulkAction(
            verb="remove",
            done="removed",
            statuses=["completed", "failed", "cancelled"],
            act=lambda client, some: client.tasks.remove(some),
        ),
        ctx,
    )


@app.command(
    "forget", cls=needs(Right.OPERATE), epilog="Example: qw task forget --match payload.customerId=cust_42 --dry-run"
)
def forget(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="Ids of tasks or runs, or prefixes; - reads ids from stdin.",
            autocompletion=task_ids,
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="payload.KEY=TEXT",
            help="Tasks with this value in the payload, and runs with it in the input. Repeatable; all must match.",
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Erase payload, result, errors, logs and events of finished tasks and runs. Cannot be undone.

    Type, queue, status and times stay. A run is erased with all tasks and runs below it.
    """
    from qw.core.errors import Invalid

    if bool(ids) == bool(match):
        raise Invalid("give either ids or --match payload.KEY=TEXT")
    places = [_place(text) for text in match or []]
    _change(
        BulkAction(
            verb="forget",
            done="forgotten",
            statuses=[],
            act=lambda client, some: client.tasks.forget(some),
            noun="record",
            find=lambda client: _about(client, places),
        ),
        ctx,
    )


def _place(text: str) -> tuple[list[str], str]:
    """Return the path and the text of ``payload.a.b=text``."""
    from qw.core.errors import Invalid

    name, has_value, value = text.partition("=")
    root, *path = name.split(".")
    if not has_value or root != "payload" or not path or not all(path):
        raise Invalid(f"--match: {text[:60]!r} is not payload.KEY=TEXT, such as payload.customerId=cust_42")
    return path, value


async def _about(client: Client, places: list[tuple[list[str], str]]) -> list[UUID]:
    found = [await client.tasks.about(*place) for place in places]
    return [id for id in found[0] if all(id in others for others in map(set, found[1:]))]


@app.command("logs", cls=needs(Right.READ, own=True), epilog="Example: qw task logs $(qw enqueue noop)")
def logs(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the task has finished.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show the log of a task (same as qw logs)."""
    from qw.cli.commands.logs import show_log
    from qw.cli.session import with_client

    with_client(lambda client: show_log(client, id, follow, output))


@app.command("why", cls=needs(Right.READ), epilog="Example: qw task why $(qw enqueue noop --in 1h)")
def why(id: Id, output: Output = OutputFormat.TABLE) -> None:
    """Explain why a task is not running (same as qw why)."""
    from qw.cli.commands.why import show_why
    from qw.cli.session import with_client

    with_client(lambda client: show_why(client, id, output))


@app.command("stack", cls=needs(Right.OPERATE), epilog="Example: qw task stack $(qw enqueue noop) || true")
def stack(id: Id, output: Output = OutputFormat.TABLE) -> None:
    """Show what a running task is doing: the stack of its coroutine or thread, or its processes.

    For a task that has ended, show the last recorded stack.
    """
    from qw.cli.session import with_client

    stacks = with_client(lambda client: _stack(client, id))
    if output is not OutputFormat.TABLE:
        show_record(record(stacks), output)
        return
    from qw.cli.output.text import ago, printable_lines
    from qw.client.stacks import stack_text

    seen = "now" if stacks.is_live else ago(stacks.at)
    print(f"{stacks.seen['kind']}, as of {seen}")
    print(printable_lines(stack_text(stacks.seen)))


async def _stack(client: Client, id: str) -> TaskStack:
    return await client.tasks.stack(await client.tasks.resolve(id))


def _change(wanted: BulkAction, ctx: typer.Context) -> None:
    from qw.cli.session import with_client

    asked = asked_for(ctx.params)
    raise typer.Exit(with_client(lambda client: change(client, wanted, asked)))
