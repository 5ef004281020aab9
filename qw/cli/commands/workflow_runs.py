"""``qw workflow`` for runs: signals, approvals, retries and diagrams; `qw.cli.commands.workflow` has the rest."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import Verb
from qw.cli.output.records import say
from qw.core.errors import Invalid
from qw.core.workflow.picture import PictureForm, drawn

if TYPE_CHECKING:
    from qw.client import Client
    from qw.client.run_control import Detailed
    from qw.core.task.payload import JsonObject
    from qw.core.workflow import Workflow
    from qw.core.workflow.run import StepStatus

_RUN = typer.Argument(metavar="RUN", help="The run's id.")
_BY = typer.Option("--by", metavar="NAME", help="Who says so; you, unless given.")
_COMMENT = typer.Option("--comment", "-m", metavar="TEXT", help="Why.")
_STEP = typer.Argument(metavar="[STEP]", help="The approval; the only one that waits, unless given.")


def add_verbs(app: typer.Typer) -> None:
    """Add these verbs to *app*."""
    running, failed = (f"Example: qw workflow runs --status {status} --quiet" for status in ("running", "failed"))
    app.command("graph", cls=Verb, epilog="Example: qw workflow graph invoice --format mermaid")(graph)
    app.command("signal", cls=Verb, epilog=running)(signal)
    app.command("approve", cls=Verb, epilog=running)(approve)
    app.command("reject", cls=Verb, epilog=running)(reject)
    app.command("retry", cls=Verb, epilog=failed)(retry)
    app.command("compensation-done", cls=Verb, epilog=failed)(compensation_done)
    app.command("schema", cls=Verb, epilog="Example: qw workflow schema > qw.schema.json")(schema)


def graph(
    id: Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run's id, or the name of a workflow.")],
    format: Annotated[PictureForm, typer.Option("--format", help="ascii, mermaid, dot or svg.")] = PictureForm.ASCII,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Draw what this file defines; no database.")
    ] = None,
) -> None:
    """Draw a workflow; with a run's id, as it stands."""
    workflow, statuses = _of_file(file, id) if file else _of_database(id)
    print(drawn(workflow, statuses, format))


def _of_file(file: Path, name: str) -> tuple[Workflow, Mapping[str, StepStatus]]:
    from qw.core.errors import NotFound, guess
    from qw.definitions import load

    found = load(file).workflows
    if name not in found:
        raise NotFound(f"{file} defines no workflow {name!r}{guess(name, found)}")
    return found[name], {}


def _of_database(word: str) -> tuple[Workflow, Mapping[str, StepStatus]]:
    from qw.cli.session import with_client

    return with_client(lambda client: _looked_up(client, word))


async def _looked_up(client: Client, word: str) -> tuple[Workflow, Mapping[str, StepStatus]]:
    from qw.client.run_control import detailed
    from qw.core.ids import parse_id
    from qw.core.workflow import parse_workflow

    try:
        run_id = parse_id(word)
    except Invalid:
        stored = await client.workflow(word)
        return parse_workflow(stored.name, stored.document), {}
    found = await detailed(client, run_id)
    return found.workflow, {step.step: step.status for step in found.steps}


def signal(
    id: Annotated[str, _RUN],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What a step of type wait_signal waits for.")],
    payload: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="An object that goes with it.")] = None,
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Tell a run something that it waits for, or will wait for."""
    from qw.cli.options.values import json_object
    from qw.cli.session import with_client
    from qw.client import run_control
    from qw.core.ids import parse_id

    run_id, given = parse_id(id), json_object(payload, "--payload") if payload else None
    with_client(lambda client: run_control.signal(client, run_id, name, given, by=by or myself()))
    say(f"run {run_id} is told {name}")


def approve(
    id: Annotated[str, _RUN],
    step: Annotated[str | None, _STEP] = None,
    comment: Annotated[str, _COMMENT] = "",
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Let an approval succeed, and the run go on."""
    from qw.cli.session import with_client
    from qw.client import run_control
    from qw.core.ids import parse_id

    run_id, who = parse_id(id), by or myself()
    decided = with_client(lambda client: run_control.approve(client, run_id, step, by=who, comment=comment))
    say(f"{decided} of run {run_id} is approved by {who}")


def reject(
    id: Annotated[str, _RUN],
    step: Annotated[str | None, _STEP] = None,
    comment: Annotated[str, _COMMENT] = "",
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Let an approval fail, and the run with it, unless it bears that."""
    from qw.cli.session import with_client
    from qw.client import run_control
    from qw.core.ids import parse_id

    run_id, who = parse_id(id), by or myself()
    decided = with_client(lambda client: run_control.reject(client, run_id, step, by=who, comment=comment))
    say(f"{decided} of run {run_id} is rejected by {who}")


def retry(
    id: Annotated[str, _RUN],
    from_failed: Annotated[bool, typer.Option("--from-failed", help="From what failed; this is the default.")] = False,
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="ID",
            help="From this step, whatever it came to; or compensate:ID, a compensation that failed.",
        ),
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="With the newest definition of its workflow.")] = False,
    edit: Annotated[bool, typer.Option("--edit", help="Edit its definition first, for this run only.")] = False,
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Let a run that is over go on; what is finished and not undone is kept."""
    from qw.cli.session import with_client
    from qw.client import run_control
    from qw.core.ids import parse_id

    if from_failed and step is not None:
        raise Invalid("--from-failed and --step say different things; give one of them")
    if latest and edit:
        raise Invalid("--latest and --edit say different things; give one of them")
    run_id = parse_id(id)
    document = _edited(with_client(lambda client: run_control.detailed(client, run_id))) if edit else None
    who = by or myself()
    with_client(lambda client: run_control.retry(client, run_id, step=step, latest=latest, document=document, by=who))
    say(f"run {run_id} goes on")


def compensation_done(
    id: Annotated[str, _RUN],
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step that was undone by hand.")],
    comment: Annotated[str, _COMMENT] = "",
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Mark a compensation that failed as done, since somebody has undone the step by hand."""
    from qw.cli.session import with_client
    from qw.client import run_control
    from qw.core.ids import parse_id

    run_id, who = parse_id(id), by or myself()
    done = with_client(lambda client: run_control.compensation_done(client, run_id, step, by=who, comment=comment))
    say(f"{done} of run {run_id} is marked as done by {who}")


def _edited(found: Detailed) -> JsonObject:
    """The run's definition as it comes back from the editor. What was typed is kept in a file when it is wrong."""
    import yaml

    from qw.core.workflow import parse_workflow
    from qw.definitions.source import read

    text = yaml.safe_dump(found.workflow.document, allow_unicode=True, sort_keys=False)
    path = Path(tempfile.mkdtemp(prefix="qw-")) / f"{found.run.workflow}.yaml"
    path.write_text(text)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    if subprocess.run(["/bin/sh", "-c", f'{editor} "$1"', "sh", str(path)], check=False).returncode:
        raise Invalid(f"the editor gave up; nothing is changed, the text is in {path}")
    source = read(path.read_text(), str(path))
    workflow = parse_workflow(found.run.workflow, source.value, source.where)
    path.unlink()
    path.parent.rmdir()
    return workflow.document


def schema(
    editor_line: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Print the line that tells editors where the schema is.")
    ] = None,
) -> None:
    """Print the JSON Schema of workflows.yaml, with which editors complete and check it."""
    from qw.cli.output.records import dumped
    from qw.definitions import schema as schemas

    print(schemas.editor_line(editor_line) if editor_line else dumped(schemas.schema(), indent=2))


def myself() -> str:
    """Who runs this command, as records show it."""
    import getpass
    import socket

    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
