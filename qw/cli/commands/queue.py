"""``qw queue``"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, noun
from qw.cli.options.completions import queue_names
from qw.cli.output.records import Output, OutputFormat, Quiet, dumped, print_lines, say, show_record, show_records
from qw.cli.output.text import counted
from qw.cli.session import myself
from qw.core.errors import Conflict, Invalid, NotFound, TimedOut
from qw.core.rights import Right

if TYPE_CHECKING:
    from uuid import UUID

    from qw.client import Client
    from qw.client.queues import QueueOverview
    from qw.core.queue.limits import Limits
    from qw.core.task.answer import Answers
    from qw.core.task.payload import Json

app = noun("queue")

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Queue name.", autocompletion=queue_names)]
Create = Annotated[bool, typer.Option("--create", help="Accept an unknown queue name without asking.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[QUEUE]...", help="Queue names.", autocompletion=queue_names)
]
All = Annotated[bool, typer.Option("--all", help="All queues.")]
CHECK_SECONDS = 0.3
_HOW_TO_LIMIT = "set one with --concurrency 10 or --rate 100/m"


@app.command("list", cls=needs(Right.READ), epilog="Example: qw queue list")
def list_queues(output: Output = OutputFormat.TABLE, quiet: Quiet = False) -> None:
    """List queues with the number of tasks in them."""
    from qw.cli.commands.status import QUEUE_COLUMNS, queue_record
    from qw.cli.session import with_client

    queues = with_client(_list)
    if quiet:
        print_lines(queue.stats.queue for queue in queues)
    elif output is OutputFormat.TABLE:
        from qw.cli.output.tables import print_table

        print_table(QUEUE_COLUMNS, queues)
    else:
        show_records([queue_record(queue) for queue in queues], output)


@app.command("show", cls=needs(Right.READ), epilog="Example: qw queue show default")
def show(name: Name, output: Output = OutputFormat.TABLE) -> None:
    """Show a queue: its tasks, limits and pause."""
    from qw.cli.commands.status import queue_record
    from qw.cli.session import with_client

    queue = with_client(lambda client: queue_of(client, name))
    if output is OutputFormat.TABLE:
        print_queue(queue)
    else:
        show_record(queue_record(queue), output)


@app.command("pause", cls=needs(Right.OPERATE), epilog="Example: qw queue pause default && qw queue resume default")
def pause(
    names: Names = None,
    all: All = False,
    create: Create = False,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Name to record. Default: your user name.")] = None,
) -> None:
    """Stop claiming tasks of queues. Running tasks are not affected."""
    from qw.cli.session import with_client

    paused = with_client(lambda client: _pause(client, names or [], all, create, by or myself()))
    say(_told("paused", paused, "; resume with: qw queue resume " + ("--all" if all else " ".join(paused))))


@app.command("resume", cls=needs(Right.OPERATE), epilog="Example: qw queue pause mail && qw queue resume mail")
def resume(names: Names = None, all: All = False) -> None:
    """Resume paused queues."""
    from qw.cli.session import with_client

    resumed, others = with_client(lambda client: _resume(client, names or [], all))
    if resumed or all:
        say(_told("resumed", resumed))
    for name in others:
        say(f"queue {name} was not paused")


@app.command("limit", cls=needs(Right.OPERATE), epilog="Example: qw queue limit mail --concurrency 10 --rate 100/m")
def limit(
    name: Name,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of tasks running at once.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/TIME", help="Maximum number of tasks started per period: 100/m, 5/s.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Payload field whose values are limited separately: payload.customerId."),
    ] = None,
    per_key: Annotated[
        int | None,
        typer.Option("--per-key", metavar="N", help="Maximum number of tasks running at once per value of --key."),
    ] = None,
    per_key_rate: Annotated[
        str | None,
        typer.Option(
            "--per-key-rate", metavar="N/TIME", help="Maximum number of tasks started per period and value of --key."
        ),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove all limits.")] = False,
    create: Create = False,
) -> None:
    """Limit how many tasks of a queue run at once or start per period, or show its limits.

    Limits that are not given stay unchanged.
    """
    from qw.cli.session import with_client

    options: dict[str, Json] = {
        "concurrency": concurrency, "rate": rate, "key": key, "per_key": per_key, "per_key_rate": per_key_rate,
    }  # fmt: skip
    wanted = {field: value for field, value in options.items() if value is not None}
    if not wanted and not none:
        limits = with_client(lambda client: _limits(client, name))
        print(f"queue {name} is limited: {limits}" if limits else f"queue {name} has no limits; {_HOW_TO_LIMIT}")
        return
    limits = with_client(lambda client: _limit(client, name, wanted, none, create=create))
    say(f"queue {name} is limited: {limits}" if limits else f"queue {name} has no limits")


@app.command("purge", cls=needs(Right.OPERATE), epilog="Example: qw queue purge mail --yes")
def purge(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the tasks that would be affected.")] = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Cancel all waiting tasks of a queue. Running tasks are not affected."""
    from qw.cli.options.selection import BulkAction, Filters, Selection, change
    from qw.cli.session import with_client

    wanted = BulkAction(
        verb="cancel",
        done="cancelled",
        statuses=["pending", "retrying"],
        act=lambda client, some: _purge(client, name, some),
    )
    asked = Selection(
        words=[], filters=Filters(queue=name), all=False, yes=yes, dry_run=dry_run, output=output, quiet=quiet
    )

    async def work(client: Client) -> int:
        await queue_of(client, name)
        return await change(client, wanted, asked)

    raise typer.Exit(with_client(work))


async def _purge(client: Client, name: str, some: Sequence[UUID]) -> Answers:
    """Cancel the tasks as one action in the audit."""
    from qw.client.acting import doing

    with doing("queue purge", name):
        return await client.tasks.cancel(some, reason="the queue was purged")


@app.command("remove", cls=needs(Right.OPERATE), epilog="Example: qw queue pause old --create && qw queue remove old")
def remove(name: Name) -> None:
    """Delete the settings (pause and limits) of a queue that has no tasks."""
    from qw.cli.session import with_client

    with_client(lambda client: _remove(client, name))
    say(f"queue {name} is removed")


@app.command("drain", cls=needs(Right.READ), epilog="Example: qw queue drain mail --timeout 1m")
def drain(
    name: Name,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after this time, with exit code 124.")
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Wait until a queue has no waiting or running task, retries included. New tasks are still accepted."""
    from qw.cli.options.values import duration
    from qw.cli.session import with_client

    limit = duration(timeout, "--timeout")
    with_client(lambda client: _drain(client, name, limit))
    if output is OutputFormat.TABLE:
        say(f"queue {name} is empty")
    else:
        print(dumped({"queue": name, "is_empty": True}))


async def _pause(client: Client, names: Sequence[str], all: bool, create: bool, by: str) -> list[str]:
    """Pause the queues and return their names."""
    chosen = await _chosen(client, names, all, create=create)
    await client.queues.pause(*chosen, by=by)
    return chosen


async def _resume(client: Client, names: Sequence[str], all: bool) -> tuple[list[str], list[str]]:
    """Return the queues that were resumed, and those that were not paused."""
    from qw.core.errors import guess

    known = await _known(client)
    for name in names:
        if name not in known and (hint := guess(name, known)):
            raise NotFound(f"there is no queue {name!r}{hint}")
    chosen = await _chosen(client, names, all, create=True)
    resumed = await client.queues.resume(*chosen)
    return resumed, [] if all else [name for name in chosen if name not in resumed]


async def _chosen(client: Client, names: Sequence[str], all: bool, *, create: bool) -> list[str]:
    if bool(names) == all:
        raise Invalid("give names of queues, or --all")
    if all:
        return sorted(await _known(client))
    if not create:
        await _check_known(client, names)
    return list(dict.fromkeys(names))


async def _check_known(client: Client, names: Sequence[str]) -> None:
    """Ask for confirmation of unknown queues. Without a terminal, raise NotFound for names similar to a known one."""
    from qw.cli.options.selection import can_ask, confirm
    from qw.core.errors import guess

    known = await _known(client)
    for name in names:
        if name in known:
            continue
        said, hint = f"there is no queue {name!r} yet", guess(name, known)
        if can_ask():
            confirm(f"{said[0].upper()}{said[1:]}{hint or '.'} Go on with {name!r}?", count="a queue")
        elif hint:
            raise NotFound(f"{said}{hint} Otherwise give --create")
        else:
            say(f"qw: queue {name} is new: it has never had a task")


async def _known(client: Client) -> set[str]:
    """Return the queues that have or had tasks, a pause or limits, those of workers and schedules, and the default
    queue.
    """
    from qw.core.task import DEFAULT_QUEUE

    served = {queue for worker in await client.workers.all() for queue in worker.queues}
    return {DEFAULT_QUEUE, *served, *(queue.stats.queue for queue in await _list(client))}


async def queue_of(client: Client, name: str) -> QueueOverview:
    """Return the queue. Raise NotFound with a similar name if it does not exist."""
    from qw.core.errors import guess

    queues = {queue.stats.queue: queue for queue in await _list(client)}
    if name in queues:
        return queues[name]
    raise NotFound(f"there is no queue {name!r}: it has never had a task{guess(name, queues)}")


async def _remove(client: Client, name: str) -> None:
    from qw.client.acting import doing

    queue = await queue_of(client, name)
    count = queue.stats.pending + queue.stats.processing + queue.stats.retrying
    if count:
        has = f"has {counted(count, 'task')}"
        raise Conflict(f"queue {name} {has}; purge it first: qw queue purge {name}, or wait: qw queue drain {name}")
    with doing("queue remove", name):
        await client.queues.resume(name)
        await client.queues.unlimit(name)


def _told(done: str, names: Sequence[str], then: str = "") -> str:
    if not names:
        return f"no queue is {done}"
    subject, verb = ("queue", "is") if len(names) == 1 else ("queues", "are")
    return f"{subject} {', '.join(names)} {verb} {done}{then}"


def print_queue(queue: QueueOverview) -> None:
    from qw.cli.commands.status import pause_of
    from qw.cli.output.text import span
    from qw.cli.output.views import print_fields

    counts = {
        name: getattr(queue.stats, name)
        for name in ("pending", "processing", "retrying", "completed", "failed", "cancelled")
    }
    fields = {
        "queue": queue.stats.queue,
        "state": pause_of(queue) or "open",
        "limits": str(queue.limits or "none"),
        "tasks": ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none",
        "oldest": f"waits for {span(queue.oldest)}" if queue.oldest else "",
    }
    print_fields({name: text for name, text in fields.items() if text})


async def _limits(client: Client, name: str) -> Limits | None:
    try:
        return (await queue_of(client, name)).limits
    except NotFound as error:
        raise Invalid(f"{error}; no limit given: use --concurrency 10, --rate 100/m or --none") from None


async def _limit(client: Client, name: str, wanted: Mapping[str, Json], none: bool, *, create: bool) -> Limits | None:
    from qw.core.queue.limits import limits_of

    if not create:
        await _check_known(client, [name])
    if not none:
        return await client.queues.amend_limits(name, wanted)
    if not wanted:
        await client.queues.unlimit(name)
        return None
    limits = limits_of(wanted)
    await client.queues.limit(name, limits)
    return limits


async def _list(client: Client) -> list[QueueOverview]:
    return await client.queues.all()


async def _drain(client: Client, name: str, limit: timedelta | None) -> None:
    from qw.cli.output.progress import ProgressLine

    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit.total_seconds() if limit is not None else None
    with ProgressLine("left") as progress:
        while left := await _left(client, name):
            if deadline is not None and loop.time() > deadline:
                raise TimedOut(f"{counted(left, 'task')} {'is' if left == 1 else 'are'} left in the queue {name}")
            progress.at(left)
            await asyncio.sleep(CHECK_SECONDS)


async def _left(client: Client, name: str) -> int:
    stats = (await queue_of(client, name)).stats
    return stats.pending + stats.processing + stats.retrying
