"""``qw wait``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import Output, OutputFormat, Quiet, show_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from qw.client import Client, Task

app = verbs()


@app.command(cls=Verb, epilog="Example: qw wait --timeout 1m $(qw run -- true)")
def wait(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Task ids; - reads ids from stdin.")],
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after this time, with exit code 124.")
    ] = None,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Wait until all given tasks have finished.

    Exit 0 if all completed; for a single command its own exit code; otherwise 1.
    """
    from qw.cli.options.values import duration
    from qw.cli.output.views import TASK_COLUMNS
    from qw.cli.session import with_client
    from qw.cli.tail import exit_code

    patience = duration(timeout, "--timeout")
    tasks = with_client(lambda client: _wait(client, ids, patience))
    show_all(tasks, TASK_COLUMNS, output, quiet=quiet)
    codes = [exit_code(task) for task in tasks]
    raise typer.Exit(codes[0] if len(codes) == 1 else int(any(codes)))


async def _wait(client: Client, words: Sequence[str], timeout: timedelta | None) -> list[Task]:
    from qw.cli.options.selection import ids_of

    return await client.wait(await ids_of(client, words), timeout=timeout)
