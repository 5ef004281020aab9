"""``qw diff``"""

from __future__ import annotations

import typer

from qw.cli.command import needs, verbs
from qw.cli.commands.apply import Files, Owner, Prune, name_of, read_files, show_changes
from qw.cli.output.records import Output, OutputFormat
from qw.core.rights import Right

app = verbs()


@app.command("diff", cls=needs(Right.READ), epilog="Example: qw diff -f workflows.yaml")
def diff(files: Files = None, owner: Owner = None, prune: Prune = False, output: Output = OutputFormat.TABLE) -> None:
    """Show what qw apply would change. Exit 1 if there are changes."""
    from qw.cli.session import with_client

    read = read_files(files)
    changes = with_client(lambda client: client.definitions.diff(read, owner=owner or name_of(read), prune=prune))
    show_changes(changes, output, with_text=True)
    raise typer.Exit(0 if changes.is_empty else 1)
