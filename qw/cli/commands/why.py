"""``qw why``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, verbs
from qw.cli.options.completions import ids
from qw.cli.output.records import Output, OutputFormat, record, show_record, show_records
from qw.cli.output.text import printable
from qw.core.rights import Right
from qw.core.task.masking import masked_text

if TYPE_CHECKING:
    from uuid import UUID

    from qw.client import Client

app = verbs()


@app.command(cls=needs(Right.READ), epilog="Example: qw why $(qw enqueue noop --in 1h)")
def why(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="Task or run id, or a unique prefix of it.", autocompletion=ids)
    ],
    output: Output = OutputFormat.TABLE,
) -> None:
    """Explain why a task is not running or a run is not advancing, and what to do about it."""
    from qw.cli.session import with_client

    with_client(lambda client: show_why(client, id, output))


async def show_why(client: Client, word: str, output: OutputFormat) -> None:
    """Print the reasons, the most important first."""
    id = await client.tasks.resolve_any(word)
    reasons = await client.tasks.why(id)
    if output is OutputFormat.JSON:
        show_record({"id": id, "reasons": record(reasons)}, output)
    elif output is OutputFormat.JSONL:
        show_records(record(reasons), output)
    else:
        _print(id, [(reason.text, reason.advice) for reason in reasons])


def _print(id: UUID, reasons: list[tuple[str, str]]) -> None:
    from rich.text import Text

    from qw.cli.output.tables import print_value

    print_value(Text(), Text(str(id), style="bold"))
    for text, advice in reasons:
        print_value(Text("- "), Text(printable(masked_text(text))))
        if advice:
            print_value(Text("  "), Text(printable(advice), style="cyan"))
