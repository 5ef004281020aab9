"""``qw top``"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, verbs
from qw.core.errors import Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.client import Client

app = verbs()


@app.command(cls=needs(Right.READ), epilog="Example: qw top --once")
def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and exit.")] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.2, max=60, help="Time between refreshes.")] = 1.0,
) -> None:
    """Watch queues, tasks, runs, schedules and workers in a full-screen view, and retry, cancel or pause them."""
    from qw.cli.session import with_client

    if once:
        with_client(_print_once)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Invalid("qw top needs a terminal; for scripts: qw top --once")

    async def run(client: Client) -> None:
        from qw.cli.top.app import TopApp

        await TopApp(client, seconds=interval).run_async()

    with_client(run)


async def _print_once(client: Client) -> None:
    from rich.text import Text

    from qw.cli.commands.status import QUEUE_COLUMNS
    from qw.cli.output.tables import console, print_table
    from qw.cli.top.overview import overview_lines

    glance, out = await client.health.glance(), console()
    out.print(Text("\n").join(overview_lines(glance, min(out.width, 200))), soft_wrap=True)
    print()
    print_table(QUEUE_COLUMNS, glance.overview.queues)
