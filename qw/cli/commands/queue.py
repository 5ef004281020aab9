"""``qw queue``"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import Output, OutputFormat, Quiet, dumped, print_lines, say, show_records
from qw.cli.output.text import counted
from qw.core.errors import Invalid, NotFound, TimedOut

if TYPE_CHECKING:
    from qw.client import Client
    from qw.client.queues import QueueOverview
    from qw.core.queue.limits import Limits
    from qw.core.task.payload import Json

app = verbs("List, pause, limit, drain and purge queues.")

Name = Annotated[str, typer.Argument(metavar="QUEUE")]
LOOK_SECONDS = 0.3


@app.command("list", cls=Verb, epilog="Example: qw queue list")
def list_queues(output: Output = OutputFormat.TABLE, quiet: Quiet = False) -> None:
    """List queues with the number of tasks in them."""
    from qw.cli.commands.status import QUEUE_COLUMNS, queue_record
    from qw.cli.session import with_client

    found = with_client(_list)
    if quiet:
        print_lines(queue.stats.queue for queue in found)
    elif output is OutputFormat.TABLE:
        from qw.cli.output.tables import print_table

        print_table(QUEUE_COLUMNS, found)
    else:
        show_records([queue_record(queue) for queue in found], output)


@app.command("pause", cls=Verb, epilog="Example: qw queue pause default && qw queue resume default")
def pause(
    name: Name,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Name to record. Default: your user name.")] = None,
) -> None:
    """Stop claiming tasks of a queue. Running tasks are not affected."""
    from qw.cli.session import with_client

    with_client(lambda client: client.queues.pause(name, by=by or _me()))
    say(f"queue {name} is paused; resume it with: qw queue resume {name}")


@app.command("resume", cls=Verb, epilog="Example: qw queue pause mail && qw queue resume mail")
def resume(name: Name) -> None:
    """Resume a paused queue."""
    from qw.cli.session import with_client

    was_paused = with_client(lambda client: client.queues.resume(name))
    say(f"queue {name} {'is resumed' if was_paused else 'was not paused'}")


@app.command("limit", cls=Verb, epilog="Example: qw queue limit mail --concurrency 10 --rate 100/m")
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
) -> None:
    """Limit how many tasks of a queue run at once or start per period. Limits that are not given stay unchanged."""
    from qw.cli.session import with_client

    given: dict[str, Json] = {
        "concurrency": concurrency, "rate": rate, "key": key, "per_key": per_key, "per_key_rate": per_key_rate,
    }  # fmt: skip
    wanted = {field: value for field, value in given.items() if value is not None}
    if not wanted and not none:
        raise Invalid("no limit given: use --concurrency 10, --rate 100/m or --none")
    limits = with_client(lambda client: _limit(client, name, wanted, none))
    say(f"queue {name} is limited: {limits}" if limits else f"queue {name} has no limits")


@app.command("purge", cls=Verb, epilog="Example: qw queue purge mail --yes")
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
        good=frozenset({"cancelled"}),
        act=lambda client, some: client.tasks.cancel(some, reason="the queue was purged"),
    )
    asked = Selection(
        words=[], filters=Filters(queue=name), all=False, yes=yes, dry_run=dry_run, output=output, quiet=quiet
    )
    raise typer.Exit(with_client(lambda client: change(client, wanted, asked)))


@app.command("drain", cls=Verb, epilog="Example: qw queue drain mail --timeout 1m")
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


async def _limit(client: Client, name: str, wanted: Mapping[str, Json], none: bool) -> Limits | None:
    from qw.core.queue.limits import limits_of

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
            await asyncio.sleep(LOOK_SECONDS)


async def _left(client: Client, name: str) -> int:
    found = [queue.stats for queue in await _list(client) if queue.stats.queue == name]
    if not found:
        raise NotFound(f"there is no queue {name!r}: it never had a task")
    return found[0].pending + found[0].processing + found[0].retrying


def _me() -> str:
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return socket.gethostname()
