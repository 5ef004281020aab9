"""``qw wait``"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from qw.cli.command import needs, verbs
from qw.cli.options import completions
from qw.cli.output.lists import Listed
from qw.cli.output.records import Output, OutputFormat, Quiet, say
from qw.cli.tail import exit_code
from qw.core.errors import Denied
from qw.core.rights import Right
from qw.core.workflow.run import RunStatus

if TYPE_CHECKING:
    from qw.client import Client

app = verbs()


@app.command(cls=needs(Right.READ, own=True), epilog="Example: qw wait --timeout 1m $(qw run -- true)")
def wait(
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            help="Ids of tasks or runs, or unique prefixes; - reads ids from stdin.",
            autocompletion=completions.ids,
        ),
    ],
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after this time, with exit code 124.")
    ] = None,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Wait until all given tasks and workflow runs have finished.

    Exit 0 if all completed; for a single command its own exit code; otherwise 1.
    """
    from qw.cli.options.values import duration
    from qw.cli.session import with_client

    limit = duration(timeout, "--timeout")
    tasks, runs = with_client(lambda client: _wait(client, ids, limit, output, quiet=quiet))
    _show(tasks, runs, output, quiet=quiet)
    codes = [*map(exit_code, tasks.items), *(int(run.status is not RunStatus.COMPLETED) for run in runs.items)]
    raise typer.Exit(codes[0] if len(codes) == 1 else int(any(codes)))


def _show(tasks: Listed, runs: Listed, output: OutputFormat, *, quiet: bool) -> None:
    if output is not OutputFormat.TABLE or quiet:
        Listed(items=[*tasks.items, *runs.items], columns=()).show(output, quiet=quiet, reveal=True)
        return
    if tasks.items or not runs.items:
        tasks.show(output, quiet=quiet, reveal=True)
    if tasks.items and runs.items:
        print()
    if runs.items:
        runs.show(output, quiet=quiet, reveal=True)
    for run in runs.items:
        if run.status is not RunStatus.COMPLETED:
            say(f"why: qw why {run.id}")


async def _wait(
    client: Client, words: Sequence[str], timeout: timedelta | None, output: OutputFormat, *, quiet: bool
) -> tuple[Listed, Listed]:
    from qw.cli.output.lists import listed_runs, listed_tasks

    tasks, runs = await _told_apart(client, words)
    started = time.monotonic()
    done = await client.wait(tasks, timeout=timeout) if tasks else []
    ended = []
    for run in runs:
        left = timeout and max(timeout - timedelta(seconds=time.monotonic() - started), timedelta(0))
        ended.append((await client.runs.wait(run, timeout=left)).run)
    listed = await listed_tasks(client, done, output, quiet=quiet)
    return listed, await listed_runs(client, ended, output, quiet=quiet)


async def _told_apart(client: Client, words: Sequence[str]) -> tuple[list[UUID], list[UUID]]:
    """Resolve *words* and return the ids of the tasks and of the runs."""
    from qw.cli.options.selection import ids_of

    ids = await ids_of(client, words, any=True)
    try:
        are_runs = set(await client.runs.workflow_names(ids))
    except Denied:  # a role that may only enqueue sees its own tasks and no runs
        are_runs = set()
    return [id for id in ids if id not in are_runs], [id for id in ids if id in are_runs]
