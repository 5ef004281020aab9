"""``qw queue``"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.output import Form, Output, Quiet, dumped, print_lines, say, show_records
from qw.cli.text import counted
from qw.cli.verbs import Verb, verbs
from qw.core.errors import NotFound, TimedOut

if TYPE_CHECKING:
    from qw.client import Client
    from qw.client.operating import Queue

app = verbs("Look at queues; pause, drain and empty them.")

Name = Annotated[str, typer.Argument(metavar="QUEUE")]
LOOK_SECONDS = 0.3


@app.command("list", cls=Verb, epilog="Example: qw queue list")
def list_queues(output: Output = Form.TABLE, quiet: Quiet = False) -> None:
    """List the queues with what is in them."""
    from qw.cli.session import with_client
    from qw.cli.status import QUEUE_COLUMNS, queue_record

    found = with_client(_list)
    if quiet:
        print_lines(queue.stats.queue for queue in found)
    elif output is Form.TABLE:
        from qw.cli.tables import print_table

        print_table(QUEUE_COLUMNS, found)
    else:
        show_records([queue_record(queue) for queue in found], output)


@app.command("pause", cls=Verb, epilog="Example: qw queue pause default && qw queue resume default")
def pause(
    name: Name,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who pauses it; you, unless given.")] = None,
) -> None:
    """Let nothing more be claimed from a queue; what runs goes on."""
    from qw.cli.session import with_client
    from qw.client.operating import pause_queue

    with_client(lambda client: pause_queue(client, name, by=by or _me()))
    say(f"queue {name} is paused; to go on: qw queue resume {name}")


@app.command("resume", cls=Verb, epilog="Example: qw queue pause mail && qw queue resume mail")
def resume(name: Name) -> None:
    """Let a paused queue's tasks be claimed again."""
    from qw.cli.session import with_client
    from qw.client.operating import resume_queue

    was_paused = with_client(lambda client: resume_queue(client, name))
    say(f"queue {name} {'goes on' if was_paused else 'was not paused'}")


@app.command("purge", cls=Verb, epilog="Example: qw queue purge mail --yes")
def purge(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which tasks it would be.")] = False,
    output: Output = Form.TABLE,
    quiet: Quiet = False,
) -> None:
    """Cancel everything that waits in a queue; what runs goes on."""
    from qw.cli.choosing import Asked, Change, Filters, change
    from qw.cli.session import with_client

    wanted = Change(
        verb="cancel",
        done="cancelled",
        statuses=["pending", "retrying"],
        good=frozenset({"cancelled"}),
        act=lambda client, some: client.cancel(some, reason="the queue was purged"),
    )
    asked = Asked(
        words=[], filters=Filters(queue=name), all=False, yes=yes, dry_run=dry_run, output=output, quiet=quiet
    )
    raise typer.Exit(with_client(lambda client: change(client, wanted, asked)))


@app.command("drain", cls=Verb, epilog="Example: qw queue drain mail --timeout 1m")
def drain(
    name: Name,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="Give up then, with exit code 124.")] = None,
    output: Output = Form.TABLE,
) -> None:
    """Wait until nothing waits or runs in a queue, retries included. Tasks may still be put in."""
    from qw.cli.session import with_client
    from qw.cli.values import duration

    patience = duration(timeout, "--timeout")
    with_client(lambda client: _drain(client, name, patience))
    if output is Form.TABLE:
        say(f"queue {name} is empty")
    else:
        print(dumped({"queue": name, "is_empty": True}))


async def _list(client: Client) -> list[Queue]:
    from qw.client.operating import list_queues

    return await list_queues(client)


async def _drain(client: Client, name: str, patience: timedelta | None) -> None:
    from qw.cli.progress import Progress

    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience.total_seconds() if patience is not None else None
    with Progress("left") as progress:
        while left := await _left(client, name):
            if deadline is not None and loop.time() > deadline:
                raise TimedOut(f"{counted(left, 'task')} {'is' if left == 1 else 'are'} left in the queue {name}")
            progress.at(left)
            await asyncio.sleep(LOOK_SECONDS)


async def _left(client: Client, name: str) -> int:
    found = [queue.stats for queue in await _list(client) if queue.stats.queue == name]
    if not found:
        raise NotFound(f"there is no queue {name!r}: nothing was ever put into it")
    return found[0].pending + found[0].processing + found[0].retrying


def _me() -> str:
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return socket.gethostname()
