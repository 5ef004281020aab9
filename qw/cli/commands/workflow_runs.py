"""``qw workflow`` commands for runs: signals, approvals, retries and diagrams. The others are in
`qw.cli.commands.workflow`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import Verb, needs
from qw.cli.options.completions import run_ids, runs_or_workflows
from qw.cli.output.records import Output, OutputFormat, say, show_record
from qw.cli.session import myself
from qw.core.errors import Invalid, NotFound
from qw.core.rights import Right
from qw.core.workflow.picture import PictureForm, drawn
from qw.core.workflow.run import RunStatus

if TYPE_CHECKING:
    from uuid import UUID

    from qw.client import Client
    from qw.client.run_tree import ShownRun
    from qw.client.runs import InspectedRun
    from qw.core.task.payload import JsonObject
    from qw.core.workflow import Workflow
    from qw.core.workflow.run import StepStatus

_RUN = typer.Argument(metavar="RUN", help="Run id, or a unique prefix of it.", autocompletion=run_ids)
_BY = typer.Option("--by", metavar="NAME", help="Name to record. Default: your user name.")
_COMMENT = typer.Option("--comment", "-m", metavar="TEXT", help="Comment to record.")
_STEP = typer.Argument(metavar="[STEP]", help="Step id. Default: the only waiting approval.")


_PLAN_EXAMPLE = "Example: qw workflow plan workflows.yaml nightly-report --assume count=failed"


def add_verbs(app: typer.Typer) -> None:
    """Add these commands to *app*."""
    app.command("graph", cls=Verb, epilog="Example: qw workflow graph invoice --format mermaid")(graph)
    verbs: dict[Callable[..., None], tuple[str, str]] = {
        signal: ("running", "-I RUN qw workflow signal RUN paid"),
        approve: ("running", "-n1 qw workflow approve --comment checked"),
        reject: ("running", "-n1 qw workflow reject --comment expired"),
        retry: ("failed", "-n1 qw workflow retry"),
        compensation_done: ("failed", "-I RUN qw workflow compensation-done RUN payment"),
    }
    for verb, (status, words) in verbs.items():
        example = f"Example: qw workflow runs --workflow order --status {status} --quiet | xargs -r {words}"
        app.command(verb.__name__.replace("_", "-"), cls=needs(Right.OPERATE), epilog=example)(verb)
    app.command("plan", cls=Verb, epilog=_PLAN_EXAMPLE)(plan)
    app.command("test", cls=Verb, epilog="Example: qw workflow test workflows.yaml")(run_tests)
    app.command("schema", cls=Verb, epilog="Example: qw workflow schema > qw.schema.json")(schema)


def graph(
    id: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NAME", help="Run id or prefix, or the name of a workflow.", autocompletion=runs_or_workflows
        ),
    ],
    format: Annotated[PictureForm, typer.Option("--format", help="Output format.")] = PictureForm.ASCII,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read the workflow from this file; needs no database."),
    ] = None,
) -> None:
    """Draw a workflow, or a run with the status of its steps."""
    workflow, statuses = _of_file(file, id) if file else _of_database(id)
    print(drawn(workflow, statuses, format))


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Definition file.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Workflow name.")],
    input: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE|-", help="Input of the workflow: a JSON object.")
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP=OUTCOME",
            help="Assumed outcome of a step: completed, failed, failed:KIND, cancelled, or its result as JSON. "
            "May be repeated. Default: completed, with the result null.",
        ),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Print which steps of a workflow would run, in which order and why. Nothing is run; needs no database."""
    from qw.cli.options.values import json_object
    from qw.core.workflow.rehearsal import parse_assumption, rehearse

    workflow, _ = _of_file(file, name)
    assumed = dict(parse_assumption(word) for word in assume or [])
    rehearsal = rehearse(workflow, json_object(input, "--input"), assumed)
    ended = rehearsal.ended
    if output is not OutputFormat.TABLE:
        show_record(
            {"steps": rehearsal.entries, "status": ended.status if ended else None, "error": ended and ended.error},
            output,
        )
        return
    width = max((len(entry.step) for entry in rehearsal.entries), default=0)
    for entry in rehearsal.entries:
        print(f"{entry.step:<{width}}  {entry.status:<9}  {entry.why}".rstrip())
    said = f"{ended.status} ({ended.detail})" if ended and ended.detail else ended.status if ended else "does not end"
    print(f"run: {said}" + (f": {ended.error}" if ended and ended.error else ""))


def run_tests(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Definition file.")] = Path("workflows.yaml"),
) -> None:
    """Run the tests in a definition file. Runs no tasks and needs no database. Exit 1 if a test fails."""
    from qw.definitions import load

    definitions, failed = load(file), 0
    for name, test in definitions.tests.items():
        try:
            faults = list(test.faults(definitions.workflows))
        except Invalid as error:
            faults = [str(error)]
        failed += bool(faults)
        print(f"{'failed' if faults else 'passed'}  {name}")
        for fault in faults:
            print(f"        {fault}")
    print(f"{len(definitions.tests) - failed} of {len(definitions.tests)} passed")
    raise typer.Exit(1 if failed else 0)


def _of_file(file: Path, name: str) -> tuple[Workflow, Mapping[str, StepStatus]]:
    from qw.core.errors import guess
    from qw.definitions import load

    workflows = load(file).workflows
    if name not in workflows:
        raise NotFound(f"{file} defines no workflow {name!r}{guess(name, workflows)}")
    return workflows[name], {}


def _of_database(word: str) -> tuple[Workflow, Mapping[str, StepStatus]]:
    from qw.cli.session import with_client

    return with_client(lambda client: _looked_up(client, word))


async def _looked_up(client: Client, word: str) -> tuple[Workflow, Mapping[str, StepStatus]]:
    from qw.core.workflow import parse_workflow

    run_id = await run_or_none(client, word)
    if run_id is None:
        stored = await client.workflows.get(word)
        return parse_workflow(stored.name, stored.document), {}
    run = await client.runs.inspect(run_id)
    return run.workflow, {step.step_id: step.status for step in run.steps}


def signal(
    id: Annotated[str, _RUN],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Signal name, as in wait_signal.")],
    payload: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="Payload: a JSON object.")] = None,
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Send a signal to a run. It is kept if the run is not waiting for it yet."""
    from qw.cli.options.values import json_object
    from qw.cli.session import with_client

    run_id, value = _resolved(id), json_object(payload, "--payload") if payload else None

    async def send(client: Client) -> None:
        _check_awaited(await client.runs.inspect(run_id), name)
        await client.runs.signal(run_id, name, value, by=by or myself())

    with_client(send)
    say(f"signal {name} sent to run {run_id}")


def _check_awaited(run: InspectedRun, name: str) -> None:
    """Raise NotFound if the run's definition has no step that waits for this signal."""
    from qw.core.errors import among
    from qw.core.workflow.step_kinds import StepKind, awaited_signal

    if not run.run.status.is_final:
        steps = [step for step in run.workflow.steps if step.kind is StepKind.SIGNAL]
        known = [awaited_signal(step.kind, step.work.payload.root, step.id) for step in steps]
        if None not in known and name not in known:
            names = [known_name for known_name in known if known_name]
            raise NotFound(f"no step of workflow {run.run.workflow} waits for the signal {name!r}{among(name, names)}")


def approve(
    id: Annotated[str, _RUN],
    step: Annotated[str | None, _STEP] = None,
    comment: Annotated[str, _COMMENT] = "",
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Approve a waiting approval step."""
    from qw.cli.session import with_client

    run_id, who = _resolved(id), by or myself()
    decided = with_client(lambda client: client.runs.approve(run_id, step, by=who, comment=comment))
    say(f"{decided} of run {run_id} is approved by {who}")


def reject(
    id: Annotated[str, _RUN],
    step: Annotated[str | None, _STEP] = None,
    comment: Annotated[str, _COMMENT] = "",
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Reject a waiting approval step. The run fails, unless the step has continue_on_error."""
    from qw.cli.session import with_client

    run_id, who = _resolved(id), by or myself()
    decided = with_client(lambda client: client.runs.reject(run_id, step, by=who, comment=comment))
    say(f"{decided} of run {run_id} is rejected by {who}")


def retry(
    id: Annotated[str, _RUN],
    from_failed: Annotated[
        bool, typer.Option("--from-failed", help="Restart from the failed steps (default).")
    ] = False,
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="ID",
            help="Restart from this step, whatever its status; or compensate:ID for a failed compensation.",
        ),
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Use the newest definition of the workflow.")] = False,
    edit: Annotated[bool, typer.Option("--edit", help="Edit the definition first, for this run only.")] = False,
    by: Annotated[str | None, _BY] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until the run has finished; exit 1 if it failed.")
    ] = False,
) -> None:
    """Restart a finished run. Completed steps that were not undone are kept."""
    from qw.cli.output.tree import print_run
    from qw.cli.session import with_client

    if from_failed and step is not None:
        raise Invalid("--from-failed and --step are mutually exclusive")
    if latest and edit:
        raise Invalid("--latest and --edit are mutually exclusive")
    run_id = _resolved(id)
    document = _edited(with_client(lambda client: client.runs.inspect(run_id))) if edit else None
    who = by or myself()
    with_client(lambda client: client.runs.retry(run_id, step=step, latest=latest, document=document, by=who))
    say(f"run {run_id} was restarted")
    if wait:
        done = with_client(lambda client: _ended(client, run_id))
        print_run(done)
        raise typer.Exit(0 if done.run.status is RunStatus.COMPLETED else 1)


def compensation_done(
    id: Annotated[str, _RUN],
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step that was undone manually.")],
    comment: Annotated[str, _COMMENT] = "",
    by: Annotated[str | None, _BY] = None,
) -> None:
    """Mark a failed compensation as done, after the step was undone manually."""
    from qw.cli.session import with_client

    run_id, who = _resolved(id), by or myself()
    done = with_client(lambda client: client.runs.mark_compensated(run_id, step, by=who, comment=comment))
    say(f"{done} of run {run_id} is marked as done by {who}")


async def _ended(client: Client, id: UUID) -> ShownRun:
    await client.runs.wait(id)
    return await client.runs.tree(id)


async def run_or_none(client: Client, word: str) -> UUID | None:
    """Return the run whose id or prefix is *word*; None if *word* may be the name of a workflow."""
    from qw.core.ids import prefix_of

    if prefix_of(word) is None:
        return None
    try:
        return await client.runs.resolve(word)
    except NotFound:
        if any(workflow.name == word for workflow in await client.workflows.all()):
            return None
        raise


def _resolved(word: str) -> UUID:
    from qw.cli.session import with_client

    return with_client(lambda client: client.runs.resolve(word))


def _edited(run: InspectedRun) -> JsonObject:
    """Return the run's definition after editing. If it is invalid, the text is kept in a file."""
    import yaml

    from qw.cli.editor import edited_text
    from qw.core.workflow import parse_workflow
    from qw.definitions.source import read

    text = yaml.safe_dump(run.workflow.document, allow_unicode=True, sort_keys=False)
    path, edited = edited_text(text, f"{run.run.workflow}.yaml")
    source = read(edited, str(path))
    workflow = parse_workflow(run.run.workflow, source.value, source.where)
    path.unlink()
    path.parent.rmdir()
    return workflow.document


def schema(
    editor_line: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="Print the comment line that points editors to the schema at this path or URL."
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of workflows.yaml, for completion and validation in editors."""
    from qw.cli.output.records import dumped
    from qw.definitions import schema as schemas

    print(schemas.editor_line(editor_line) if editor_line else dumped(schemas.schema(), indent=2))
