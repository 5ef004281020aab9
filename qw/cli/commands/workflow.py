"""``qw workflow``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from qw.cli.command import Verb, needs, noun
from qw.cli.commands.workflow_runs import add_verbs, run_or_none
from qw.cli.options.completions import run_ids, run_statuses, runs_or_workflows, workflow_names
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, Quiet, say, show_all, show_record
from qw.cli.output.text import ago, counted
from qw.cli.session import myself
from qw.core.errors import Invalid, NotFound
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.cli.output.lists import Listed
    from qw.client import Client
    from qw.client.run_tree import ShownRun

app = noun("workflow")
add_verbs(app)

_COLUMNS: Sequence[Column] = (
    Column(title="name", text=lambda workflow: workflow.name),
    Column(title="steps", text=lambda workflow: ", ".join(_step_names(workflow.document)), rank=1, loose=True),
    Column(title="active", text=lambda workflow: "yes" if workflow.is_active else "no", rank=2),
    Column(title="updated", text=lambda workflow: ago(workflow.updated_at), rank=3, right=True),
)


@app.command("list", cls=needs(Right.READ), epilog="Example: qw workflow list")
def list_workflows(output: Output = OutputFormat.TABLE, quiet: Quiet = False) -> None:
    """List workflows."""
    from qw.cli.session import with_client

    workflows = with_client(lambda client: client.workflows.all())
    if quiet:
        print("\n".join(workflow.name for workflow in workflows))
    else:
        show_all(workflows, _COLUMNS, output)


@app.command("runs", cls=needs(Right.READ), epilog="Example: qw workflow runs --status failed")
def runs(
    workflow: Annotated[
        str | None, typer.Option("--workflow", help="Only runs of this workflow.", autocompletion=workflow_names)
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", "-s", help="Only runs with this status.", autocompletion=run_statuses)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number of rows.")] = 50,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """List runs, newest first."""
    from qw.cli.session import with_client
    from qw.core.workflow.run import RunStatus

    if status is not None and status not in set(RunStatus):
        raise Invalid(f"--status: {status[:60]!r} is not one of {', '.join(RunStatus)}")
    wanted = RunStatus(status) if status else None

    async def find(client: Client) -> Listed:
        from qw.cli.output.lists import listed_runs

        page = await client.runs.find(workflow=workflow, status=wanted, limit=limit)
        return await listed_runs(client, page, output, quiet=quiet)

    with_client(find).show(output, quiet=quiet)


@app.command(
    "start", cls=needs(Right.ENQUEUE), epilog="""Example: qw workflow start invoice --input '{"customerId": "zoe"}'"""
)
def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Workflow name.", autocompletion=workflow_names)],
    input: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE|-", help="Input of the workflow: a JSON object.")
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="UUID", help="Run id (UUIDv7). Repeating the command with the same id starts no second run."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until the run has finished; exit 1 if it failed.")
    ] = False,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With --wait: give up after this time, with exit code 124.")
    ] = None,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Start a run of a workflow and print its id."""
    from qw.cli.options.values import duration, json_object
    from qw.cli.session import with_client
    from qw.core.ids import parse_id

    values, run_id = json_object(input, "--input"), parse_id(id, path="--id") if id else None
    limit = duration(timeout, "--timeout")

    async def begin(client: Client) -> ShownRun | UUID:
        started = await client.runs.start(name, values, id=run_id)
        if not wait:
            return started
        if output is OutputFormat.TABLE or quiet:
            print(started, flush=True)
        await client.runs.wait(started, timeout=limit)
        return await client.runs.tree(started)

    done = with_client(begin, creates=True)
    if isinstance(done, UUID):
        show_record({"id": done}, output) if output is not OutputFormat.TABLE and not quiet else print(done)
        return
    if not quiet:
        _show_run(done, output, reveal=True)
    raise typer.Exit(_exit_code(done))


@app.command("show", cls=needs(Right.READ), epilog="Example: qw workflow show invoice")
def show(
    id: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NAME", help="Run id or prefix, or the name of a workflow.", autocompletion=runs_or_workflows
        ),
    ],
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a run as a tree of its steps, or a stored workflow."""
    from qw.cli.session import with_client

    found = with_client(lambda client: _run_or_workflow(client, id))
    if not hasattr(found, "document"):
        _show_run(found, output)
    elif output is OutputFormat.TABLE:
        import yaml

        print(yaml.safe_dump({found.name: found.document}, allow_unicode=True, sort_keys=False), end="")
    else:
        show_record(found, output)


@app.command("cancel", cls=needs(Right.OPERATE), epilog="Example: qw workflow runs --status running --quiet")
def cancel(
    id: Annotated[str, typer.Argument(metavar="RUN", help="Run id, or a unique prefix of it.", autocompletion=run_ids)],
) -> None:
    """Cancel a run: no new step starts, and running tasks are asked to stop."""
    from qw.cli.session import with_client

    async def work(client: Client) -> UUID:
        run_id = await client.runs.resolve(id)
        await client.runs.cancel(run_id, by=myself())
        return run_id

    say(f"run {with_client(work)} is being cancelled")


@app.command("validate", cls=Verb, epilog="Example: qw workflow validate workflows.yaml")
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Definition files. Default: workflows.yaml.")
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Option("--file", "-f", metavar="FILE", help="Same as the argument FILE.")
    ] = None,
) -> None:
    """Check definition files and report every fault as file:line:column. Needs no database."""
    from qw.definitions import load

    is_sound = True
    for path in [*(files or []), *(more or [])] or [Path("workflows.yaml")]:
        try:
            definitions = load(path)
        except Invalid as error:
            is_sound = False
            for fault in error.faults:
                say(str(fault))
            if tool := _tool_of(path):
                say(f"{path} looks like a file of another tool; convert it with: qw workflow import {tool} {path}")
        else:
            for warning in definitions.warnings:
                say(f"warning: {warning}")
            parts = [
                (len(definitions.workflows), "workflow"),
                (len(definitions.schedules), "schedule"),
                (len(definitions.queues), "queue"),
                (len(definitions.commands), "command"),
                (len(definitions.webhooks), "webhook"),
            ]
            print(f"{path}: {' and '.join(counted(number, noun) for number, noun in parts if number) or 'empty'}")
    raise typer.Exit(0 if is_sound else 2)


@app.command("import", cls=Verb, epilog="Example: qw workflow import github-actions ci.yml -o ci.yaml")
def import_file(
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="github-actions, dagu, argo or step-functions.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of that tool.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a new file instead of stdout.")
    ] = None,
) -> None:
    """Convert a file of another tool to a definition file, with a comment at each part that could not be converted."""
    from qw.core.errors import guess
    from qw.definitions import loads
    from qw.definitions.imports import TOOLS, convert

    if tool not in TOOLS:
        raise Invalid(f"TOOL: {tool[:60]!r} is not one of {', '.join(TOOLS)}{guess(tool[:60], TOOLS)}")
    made = convert(tool, _text(file), str(file))
    if output is None:
        print(made, end="")
    else:
        try:
            with open(output, "x", encoding="utf-8") as new:
                new.write(made)
        except FileExistsError:
            raise Invalid(f"--output: {output} exists already") from None
        except OSError as error:
            raise Invalid(f"--output: {output} cannot be written: {error.strerror}") from None
    todo = made.count("# TODO ")
    if todo:
        say(f"{counted(todo, 'place')} to look at, marked with # TODO")
    try:
        loads(made, str(output or "workflows.yaml"))
    except Invalid as error:
        for fault in error.faults:
            say(str(fault))
        raise typer.Exit(1) from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file} cannot be read: {error}") from None


def _tool_of(path: Path) -> str | None:
    """Return the tool whose format the file at *path* has, if that can be recognised."""
    from qw.definitions.imports import recognized
    from qw.definitions.source import read

    try:
        text = _text(path)
        return "argo" if "argoproj.io/" in text[:2000] else recognized(read(text, str(path)).value)
    except (Invalid, NotFound):
        return None


async def _run_or_workflow(client: Client, word: str) -> Any:
    run_id = await run_or_none(client, word)
    try:
        return await (client.workflows.get(word) if run_id is None else client.runs.tree(run_id))
    except NotFound:
        return await client.workflows.get(word)


def _show_run(run: ShownRun, output: OutputFormat, *, reveal: bool = False) -> None:
    from qw.cli.output.tree import as_record, print_run
    from qw.core.task.masking import masked

    if output is OutputFormat.TABLE:
        print_run(run)
    else:
        show_record(as_record(run) if reveal else masked(as_record(run)), output)


def _exit_code(run: ShownRun) -> int:
    from qw.core.workflow.run import RunStatus

    return 0 if run.run.status is RunStatus.COMPLETED else 1


def _step_names(document: Any) -> list[str]:
    steps = document.get("steps") if isinstance(document, dict) else None
    return [str(step.get("id", "?")) for step in steps or [] if isinstance(step, dict)]
