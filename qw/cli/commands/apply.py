"""``qw apply``, and what it shares with ``qw diff``"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import Column, Output, OutputFormat, say, show_all, show_record
from qw.cli.output.text import ago, counted, printable

if TYPE_CHECKING:
    from qw.client.apply import Changes, DefinitionChange
    from qw.definitions import Definitions

app = verbs()

Files = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", metavar="FILE", help="Definition file. May be repeated. Default: workflows.yaml."),
]
Owner = Annotated[
    str | None,
    typer.Option("--owner", metavar="NAME", help="The name of this set of files; their names, unless given."),
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


@app.command("apply", cls=Verb, epilog="Example: qw apply -f workflows.yaml")
def apply(
    files: Files = None,
    owner: Owner = None,
    prune: Prune = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask for confirmation before removing definitions.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="Show only who applied what, and when.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Apply workflows, schedules, queues, commands and webhooks from files to the database, in one transaction."""
    from qw.cli.commands.workflow_runs import myself
    from qw.cli.options.selection import confirm
    from qw.cli.session import with_client
    from qw.client import apply as applying

    if history:
        show_all(with_client(lambda client: applying.history(client)), _HISTORY, output)
        return
    read = read_files(files)
    name = owner or name_of(read)
    if prune and not yes:
        planned = with_client(lambda client: applying.diff(client, read, owner=name, prune=True))
        gone = [change for change in planned.changes if change.how is applying.How.REMOVED]
        if gone:
            listed = ", ".join(f"{one.kind} {one.name}" for one in gone)
            confirm(f"Remove {listed}?", count=counted(len(gone), "definition"))
    done = with_client(lambda client: applying.apply(client, read, owner=name, by=myself(), prune=prune), creates=True)
    show_changes(done, output, with_text=False)
    if output is OutputFormat.TABLE:
        said = [f"{sum(change.how == how for change in done.changes)} {how}" for how in _SIGNS]
        say(", ".join(one for one in said if not one.startswith("0 ")) or "nothing changed")


def read_files(files: Sequence[Path] | None) -> list[Definitions]:
    """What *files* define. Raise Invalid with every fault, or NotFound."""
    from qw.definitions import load

    return [load(path) for path in files or [Path("workflows.yaml")]]


def name_of(read: Sequence[Definitions]) -> str:
    """The name of a set of files: without folders, so that it is the same on every machine."""
    return "+".join(sorted(Path(one.source).name for one in read))


def show_changes(found: Changes, output: OutputFormat, *, with_text: bool) -> None:
    """Print what changes; *with_text* how."""
    for warning in found.warnings:
        say(f"warning: {warning}")
    if output is not OutputFormat.TABLE:
        show_record({"changes": found.changes, "warnings": found.warnings}, output)
        return
    for change in found.changes:
        if change.how in _SIGNS:
            hint = "  (no longer defined in these files; --prune removes it)" if change.how == "left" else ""
            print(printable(f"{_SIGNS[change.how]} {change.kind} {change.name}{hint}"))
            if with_text and change.how != "left":
                for line in _lines(change):
                    print(printable(f"    {line}"))


def _summary(changes: Any) -> str:
    said = [f"{_SIGNS[one['how']]} {one['kind']} {one['name']}" for one in changes if one["how"] in _SIGNS]
    return ", ".join(said)


def _lines(change: DefinitionChange) -> Iterator[str]:
    """What becomes of its text, with a little around each place."""
    before, after = (_yaml(one) for one in (change.before, change.after))
    for line in unified_diff(before, after, n=2, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield line


def _yaml(value: Any) -> list[str]:
    import yaml

    if value in (None, {}):
        return []
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=True)).splitlines()
