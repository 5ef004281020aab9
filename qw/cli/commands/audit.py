"""``qw audit``"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from qw.cli.command import needs, verbs
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, show_all
from qw.cli.output.text import ago, printable
from qw.core.rights import Right

app = verbs()

_COLUMNS: Sequence[Column] = (
    Column(title="when", text=lambda entry: ago(entry.at), right=True),
    Column(title="actor", text=lambda entry: printable(entry.actor)),
    Column(title="via", text=lambda entry: entry.via, rank=3),
    Column(title="verb", text=lambda entry: entry.verb),
    Column(title="target", text=lambda entry: printable(entry.target), rank=1, loose=True),
    Column(title="count", text=lambda entry: "" if entry.count is None else f"{entry.count:,}", rank=4, right=True),
    Column(title="outcome", text=lambda entry: entry.outcome, rank=2, is_status=True),
    Column(title="detail", text=lambda entry: printable(entry.detail or ""), rank=5, loose=True),
)


@app.command(cls=needs(Right.READ), epilog="Example: qw audit --verb task --since 1d")
def audit(
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="Only changes by this user, token or role.")] = None,
    verb: Annotated[
        str | None,
        typer.Option(metavar="VERB", help="Only changes by this verb: 'task retry', or 'task' for all verbs of tasks."),
    ] = None,
    via: Annotated[
        str | None,
        typer.Option(metavar="WAY", help="Only changes through this interface: cli, http, dashboard, python or sql."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME|AGE", help="Only changes since this time: 2h (ago) or 2026-11-24T18:00Z."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of entries.")] = 100,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show who changed what, newest first: through the command line, HTTP, the dashboard, Python or SQL."""
    from qw.cli.options.values import past
    from qw.cli.session import with_client

    begin = past(since, "--since")
    entries = with_client(lambda client: client.audit.find(limit=limit, actor=actor, verb=verb, via=via, since=begin))
    show_all(entries, _COLUMNS, output, quiet=False)
