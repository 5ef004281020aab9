"""``qw logs``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.output import Form, Output, dumped, record, show_records
from qw.cli.verbs import Verb, verbs

if TYPE_CHECKING:
    from qw.client import Client
    from qw.store.tasks import LogLine

app = verbs()


@app.command(cls=Verb, epilog="Example: qw logs $(qw enqueue noop)")
def logs(
    id: Annotated[str, typer.Argument(metavar="ID", help="The task's id, or its beginning.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the task is final.")] = False,
    output: Output = Form.TABLE,
) -> None:
    """Show what a task said: its log, and what its command printed."""
    from qw.cli.session import with_client

    with_client(lambda client: show_log(client, id, follow, output))


async def show_log(client: Client, word: str, follow: bool, output: Form) -> None:
    """Print the log; with *follow*, go on until the task is final, and say how it ended."""
    from qw.cli import following

    id = await client.resolve(word)
    if output is Form.JSON and not follow:
        lines: list[LogLine] = []
        await following.show_new(client, id, following.Place(), lines.append)
        show_records(record(lines), output)
        return
    show = following.print_line if output is Form.TABLE else _print_record
    if not follow:
        await following.show_new(client, id, following.Place(), show)
        return
    following.say_end(await following.follow(client, id, following.Place(), show))


def _print_record(line: LogLine) -> None:
    print(dumped(record(line)))
