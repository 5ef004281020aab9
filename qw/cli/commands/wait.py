"""``qw wait``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import Output, OutputFormat, Quiet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from qw.cli.output.lists import Listed
    from qw.client import Client, Task

app = verbs()


@app.command(cls=Verb, epilog="Example: qw wait --timeout 1m $(qw run -- true)")
def wait(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Task ids or unique prefixes; - reads ids from stdin.")
    ],
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
    from qw.cli.session import with_client
    from qw.cli.tail import exit_code

    limit = duration(timeout, "--timeout")

    async def work(client: Client) -> Listed:
        from qw.cli.output.lists import listed_tasks

        return await listed_tasks(client, await _wait(client, ids, limit), output, quiet=quiet)

    listed = with_client(work)
    listed.show(output, quiet=quiet)
    codes = [exit_code(task) for task in listed.items]
    raise typer.Exit(codes[0] if len(codes) == 1 else int(any(codes)))


async def _wait(client: Client, words: Sequence[str], timeout: timedelta | None) -> list[Task]:
    from qw.cli.options.selection import ids_of

    return await client.wait(await ids_of(client, words), timeout=timeout)
