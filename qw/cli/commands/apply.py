"""``qw apply``, and the functions it shares with ``qw diff``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import needs, verbs
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, say, show_all, show_record
from qw.cli.output.text import ago, counted, printable
from qw.core.errors import Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.client.definitions import Changes, DefinitionChange
    from qw.definitions import Definitions

app = verbs()

Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", metavar="FILE", help="Definition file. May be repeated. Default: workflows.yaml."),
]
Owner = Annotated[
    str | None,
    typer.Option(
        "--owner",
        metavar="NAME",
        help="Name of this set of files; default: owner: in the files, else this host and their paths.",
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove definitions that this owner applied before and no longer defines.")
]

_HISTORY: Sequence[Column] = (
    Column(title="applied", text=lambda entry: ago(entry.at), right=True),
    Column(title="by", text=lambda entry: entry.by, rank=2),
    Column(title="set", text=lambda entry: entry.owner, rank=1),
    Column(title="changes", text=lambda entry: _summary(entry.changes), rank=3, loose=True),
)

_SIGNS = {"added": "+", "changed": "~", "removed": "-", "left": "!"}


@app.command("apply", cls=needs(Right.OPERATE), epilog="Example: qw apply -f workflows.yaml")
def apply(
    files: Files = None,
    owner: Owner = None,
    prune: Prune = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take over definitions that another owner applied.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Prune also what runs, schedules or workflows still need; active runs continue."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask for confirmation before removing definitions.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="Show only who applied what, and when.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Apply workflows, schedules, queues, commands and webhooks from files to the database, in one transaction."""
    from qw.cli.options.selection import confirm
    from qw.cli.session import myself, with_client
    from qw.client.definitions import How

    if history:
        show_all(with_client(lambda client: client.definitions.history()), _HISTORY, output)
        return
    read = read_files(files)
    name = owner or name_of(read)
    if force and not prune:
        raise Invalid("--force needs --prune")
    if prune and not yes:
        planned = with_client(lambda client: client.definitions.diff(read, owner=name, prune=True))
        gone = [change for change in planned.changes if change.how is How.REMOVED]
        is_refused = any(change.needed_by for change in gone) and not force
        if gone and not is_refused:
            listed = ", ".join(f"{definition.kind} {definition.name}" for definition in gone)
            preview = "preview with qw diff --prune"
            confirm(f"Remove {listed}?", count=counted(len(gone), "definition"), preview=preview)
    done = with_client(
        lambda client: client.definitions.apply(
            read, owner=name, by=myself(), prune=prune, take_over=take_over, force=force
        ),
        creates=True,
    )
    show_changes(done, output, with_text=False)
    if output is OutputFormat.TABLE:
        said = [f"{sum(change.how == how for change in done.changes)} {how}" for how in _SIGNS]
        say(", ".join(part for part in said if not part.startswith("0 ")) or "nothing changed")


def read_files(files: Sequence[Path] | None) -> list[Definitions]:
    """Return the definitions in *files*. Raise Invalid with every fault, or NotFound."""
    from qw.definitions import load

    return [load(path) for path in files or [Path("workflows.yaml")]]


def name_of(read: Sequence[Definitions]) -> str:
    """Return the owner of a set of files: their ``owner:``, otherwise this host name and the paths of the files.

    Two projects thus never share an owner by accident, and a project at the same path keeps its owner. Raise Invalid
    if the files have different owners.
    """
    import os
    import socket

    named = sorted({document.owner for document in read if document.owner})
    if len(named) > 1:
        raise Invalid(f"these files have different owners ({', '.join(named)}); apply them apart, or give --owner")
    if named:
        return named[0]
    places = sorted({os.path.realpath(document.source) for document in read})
    return f"{socket.gethostname()}:{'+'.join(places)}".encode(errors="replace").decode()


def show_changes(changes: Changes, output: OutputFormat, *, with_text: bool) -> None:
    """Print the changes; *with_text*: each with a diff of its definition."""
    for warning in changes.warnings:
        say(f"warning: {warning}")
    if output is not OutputFormat.TABLE:
        show_record({"changes": changes.changes, "warnings": changes.warnings}, output)
        return
    for change in changes.changes:
        if change.how == "unchanged" and change.taken_from:
            print(printable(f"= {change.kind} {change.name}{_hint(change)}"))
        if change.how in _SIGNS:
            print(printable(f"{_SIGNS[change.how]} {change.kind} {change.name}{_hint(change)}"))
            if with_text and change.how != "left":
                for line in _lines(change):
                    print(printable(f"    {line}"))


def _hint(change: DefinitionChange) -> str:
    if change.needed_by:
        return f"  (needed by {', '.join(change.needed_by)}; removed with --force only)"
    if change.taken_from:
        return f"  (belongs to {change.taken_from}; --take-over makes it yours)"
    return "  (no longer defined in these files; --prune removes it)" if change.how == "left" else ""


def _summary(changes: Any) -> str:
    said = [
        f"{_SIGNS[change['how']]} {change['kind']} {change['name']}" for change in changes if change["how"] in _SIGNS
    ]
    return ", ".join(said)


def _lines(change: DefinitionChange) -> Iterator[str]:
    """Yield the lines of a unified diff of the definition, with two lines of context."""
    before, after = (_yaml(document) for document in (change.before, change.after))
    for line in unified_diff(before, after, n=2, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield line


def _yaml(value: Any) -> list[str]:
    import yaml

    if value in (None, {}):
        return []
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=True)).splitlines()
