"""``qw logs``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, verbs
from qw.cli.options.completions import task_ids
from qw.cli.output.records import Output, OutputFormat, dumped, record, say, show_records
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.client import Client
    from qw.store.tasks import LogLine

app = verbs()


@app.command(cls=needs(Right.READ, own=True), epilog="Example: qw logs $(qw enqueue noop)")
def logs(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="Task id, or a unique prefix of it.", autocompletion=task_ids)
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the task has finished.")] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Print only the output of the command, byte for byte, with its stderr on stderr."),
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show the log of a task, including the output of its command."""
    from qw.cli.session import with_client

    with_client(lambda client: show_log(client, id, follow, output, raw=raw))


async def show_log(client: Client, word: str, follow: bool, output: OutputFormat, *, raw: bool = False) -> None:
    """Print the log; with *follow*, until the task is final, and then print how it ended."""
    from qw.cli import tail

    id = await client.tasks.resolve(word)
    if output is OutputFormat.JSON and not follow:
        lines: list[LogLine] = []
        await tail.show_new(client, id, tail.LogCursor(), lines.append)
        show_records(record(lines), output)
        return
    show = tail.print_output if raw else tail.print_line if output is OutputFormat.TABLE else _print_record
    if not follow:
        if not await tail.show_new(client, id, tail.LogCursor(), show) and output is OutputFormat.TABLE and not raw:
            say(f"qw: the log of {id} is empty")
        return
    tail.say_end(await tail.follow(client, id, tail.LogCursor(), show))


def _print_record(line: LogLine) -> None:
    print(dumped(record(line)))
