"""``qw schedule``"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import needs, noun, verbs
from qw.cli.options.completions import queue_names, schedule_names, type_names, workflow_names
from qw.cli.output.records import Output, OutputFormat, Quiet, print_lines, say, show_record, show_records
from qw.cli.output.text import counted
from qw.core.errors import Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.schedule import Schedule

app = noun("schedule")
importing = verbs("Import schedules from other schedulers.")
app.add_typer(importing, name="import")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Schedule name.", autocompletion=schedule_names)]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Schedule names.", autocompletion=schedule_names)]


@app.command("list", cls=needs(Right.READ), epilog="Example: qw schedule list")
def list_schedules(output: Output = OutputFormat.TABLE, quiet: Quiet = False) -> None:
    """List schedules with what they start and their next tick."""
    from qw.cli.output.schedule_views import SCHEDULE_COLUMNS, as_record
    from qw.cli.session import with_client

    schedules = with_client(_all)
    if quiet:
        print_lines(stored.name for stored in schedules)
    elif output is OutputFormat.TABLE:
        from qw.cli.output.tables import print_table

        print_table(SCHEDULE_COLUMNS, schedules)
    else:
        show_records([as_record(stored) for stored in schedules], output)


@app.command(
    "add",
    cls=needs(Right.OPERATE),
    epilog='Example: qw schedule add backup --cron "0 3 * * *" --timezone Europe/Berlin -- tar -czf /backup/home.tgz .',
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Schedule name.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD [ARG]...]", help="Command to run.")] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Cron expression: minute hour day month weekday.")
    ] = None,
    every: Annotated[str | None, typer.Option(metavar="DURATION", help="Interval: 30s, 5m, 2h.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Run once at this time, in --timezone: 18:00, 'tomorrow 9am', 2026-12-24T18:00."
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="Time zone of --cron, --at, --start and --end. Default: UTC, not local time."
        ),
    ] = None,
    seconds: Annotated[
        bool, typer.Option("--seconds", help="The cron expression has a leading seconds field.")
    ] = False,
    type: Annotated[
        str | None, typer.Option("--type", "-t", help="Start a task of this type.", autocompletion=type_names)
    ] = None,
    payload: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="Payload of the task.")] = None,
    workflow: Annotated[
        str | None, typer.Option(help="Start a run of this workflow.", autocompletion=workflow_names)
    ] = None,
    input: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="Input of the workflow.")] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Queue of its tasks.", autocompletion=queue_names)
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", "-p", help="Priority, 0 to 9; lower numbers run first.")
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option("--max-retries", help="Maximum attempts per task, including the first (1 = no retry).")
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Timeout per attempt. Default: that of the type; none for commands."),
    ] = None,
    misfire: Annotated[
        str | None,
        typer.Option(help="What to do with missed ticks: skip, once (fire the latest) or all. Default: once."),
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How late a missed tick may still fire. Default: 1h.")
    ] = None,
    cap: Annotated[int | None, typer.Option(help="Maximum number of missed ticks to fire. Default: 100.")] = None,
    overlap: Annotated[
        str | None,
        typer.Option(help="If the previous task or run is unfinished: allow, skip or cancel it. Default: allow."),
    ] = None,
    jitter: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Delay each tick by a random time up to this.")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="No ticks before this time.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="No ticks after this time.")] = None,
    keep_background: Annotated[
        bool, typer.Option("--keep-background", help="Do not end background processes of the command.")
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    description: Annotated[str | None, typer.Option(help="Description.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the schedule if it exists.")] = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Add a schedule: when (--cron, --every or --at) and what to start (--type, --workflow or a command)."""
    from qw.cli.options.values import delay, json_object
    from qw.cli.session import with_client
    from qw.core.schedule.document import parse_schedule

    delay(every, "--every")
    if command and len(command[0].split()) >= 5 and not (cron or every or at):
        rest = f" -- {shlex.join(command[1:])}" if command[1:] else ""
        raise Invalid(f"give the times as an option: qw schedule add {name} --cron {command[0]!r}{rest}")

    if not command and type is None and workflow is None:
        raise Invalid(f"schedule {name!r} has nothing to start: give --type, --workflow or, after the name, -- COMMAND")
    values = json_object(payload or input, "--payload" if payload else "--input")
    document: dict[str, Any] = {
        "cron": cron, "every": every, "at": _time(at, timezone), "seconds": seconds or None, "timezone": timezone,
        "type": type, "workflow": workflow, "with": values, "queue": queue, "priority": priority,
        "max_retries": max_retries, "timeout": timeout, "misfire": misfire, "window": window, "cap": cap,
        "overlap": overlap, "jitter": jitter, "start": _time(start, timezone), "end": _time(end, timezone),
        "paused": paused or None, "description": description,
    }  # fmt: skip
    given = {key: value for key, value in document.items() if value is not None}
    given_command = _with_command(given, command, keep_background)
    option = partial(_option, given="--payload" if payload else "--input" if input else "--")
    schedule = parse_schedule(name, given_command, option, option)
    with_client(lambda client: _add(client, schedule, replace, output, quiet), creates=True)


@app.command("show", cls=needs(Right.READ), epilog="Example: qw schedule show backup")
def show(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Number of past ticks to show.")] = 10,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a schedule, its next ticks and the outcome of the last ones."""
    from qw.cli.output.schedule_views import show_schedule
    from qw.cli.session import with_client

    with_client(lambda client: show_schedule(client, name, limit, output))


@app.command("next", cls=needs(Right.READ), epilog="Example: qw schedule next backup --count 20")
def next_ticks(
    name: Name,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Number of ticks to show.")] = 10,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show the next ticks in the schedule's time zone and in UTC, with the effect of clock changes."""
    from qw.cli.output.schedule_views import show_ticks
    from qw.cli.session import with_client

    show_ticks(with_client(lambda client: client.schedules.next(name, count=count)), output)


@app.command("pause", cls=needs(Right.OPERATE), epilog="Example: qw schedule pause backup")
def pause(names: Names) -> None:
    """Pause schedules: no tick fires until they are resumed."""
    from qw.cli.session import with_client

    with_client(lambda client: client.schedules.pause(*names))
    say(f"paused: {', '.join(names)}")


@app.command("resume", cls=needs(Right.OPERATE), epilog="Example: qw schedule resume backup")
def resume(names: Names) -> None:
    """Resume schedules with their next tick. Ticks missed while paused are skipped."""
    from qw.cli.session import with_client

    with_client(lambda client: client.schedules.resume(*names))
    say(f"resumed: {', '.join(names)}")


@app.command("trigger", cls=needs(Right.OPERATE), epilog="Example: qw wait $(qw schedule trigger backup)")
def trigger(name: Name, output: Output = OutputFormat.TABLE) -> None:
    """Fire a schedule now, in addition to its ticks, and print the id of the task or run."""
    from qw.cli.session import with_client

    id = with_client(lambda client: client.schedules.trigger(name))
    print(id) if output is OutputFormat.TABLE else show_record({"id": id}, output)


@app.command("backfill", cls=needs(Right.OPERATE), epilog="Example: qw schedule backfill backup --since 2d --dry-run")
def backfill(
    name: Name,
    since: Annotated[
        str, typer.Option(metavar="TIME|DURATION", help="Start of the period: 2026-11-20T00:00Z, or an age such as 2d.")
    ],
    until: Annotated[str | None, typer.Option(metavar="TIME|DURATION", help="End of the period. Default: now.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the ticks that would fire.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Fire past ticks that did not fire, each at most once: up to 1,000 per call, up to 31 days back."""
    from qw.cli.session import with_client

    raise typer.Exit(with_client(lambda client: _backfill(client, name, (since, until), dry_run, yes, output)))


@app.command("remove", cls=needs(Right.OPERATE), epilog="Example: qw schedule remove backup")
def remove(names: Names) -> None:
    """Delete schedules. Their tasks and runs are not affected."""
    from qw.cli.session import with_client

    with_client(lambda client: client.schedules.remove(*names))
    say(f"removed: {', '.join(names)}")


@importing.command("crontab", cls=needs(Right.OPERATE), epilog="Example: crontab -l | qw schedule import crontab -")
def import_crontab(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A crontab, such as crontab -l prints; - reads stdin.")],
    timezone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Time zone of the crontab. Default: the time zone of this machine."),
    ] = None,
    system: Annotated[
        bool | None,
        typer.Option(
            "--system/--user",
            help="Whether lines have a user before the command, as in /etc/crontab. Default: detect it.",
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix of the schedule names.")] = "",
    owner: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of this import. Default: your user name, host and prefix."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Add the schedules instead of only showing them.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what this owner imported before and is not in the crontab now.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also replace schedules that this owner did not import.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Convert a crontab into schedules that run its commands. Without --yes, it only shows them.

    Exit code 1: some lines could not be converted; they are listed, and the others are imported.
    """
    from qw.cli.commands.schedule_crontab import preview, read_crontab, report
    from qw.cli.session import myself, with_client
    from qw.core.errors import Invalid

    read = read_crontab(file, timezone=timezone, system=system, owner=owner, prefix=prefix)
    jobs = read.crontab.jobs
    if not yes:
        raise typer.Exit(preview(read, output))
    if prune and not jobs:
        raise Invalid("the crontab has no command to import, and --prune would remove all; use qw schedule remove")
    made = with_client(
        lambda client: client.definitions.import_crontab(
            jobs, read.owner, by=myself(), prefix=prefix, prune=prune, replace=replace
        ),
        creates=True,
    )
    raise typer.Exit(report(read, made, output))


def _time(text: str | None, timezone: str | None) -> str | None:
    """Return *text*; if it is words (``tomorrow 9am``), return their time in *timezone* instead."""
    from qw.clock import clock
    from qw.core.schedule.zones import instant, zone
    from qw.core.times import parse_moment

    if text is None or text[:4].isdecimal():
        return text
    there = zone(timezone or "UTC")
    moment = parse_moment(text, clock.now().astimezone(there), lambda naive: instant(naive, there), ahead=True)
    return text if moment is None else moment.isoformat()


def _option(key: str, *, given: str) -> str:
    """Return the option that sets *key* (or a path below it) of a schedule's document; *given*: the option for its
    values.
    """
    first, dot, rest = key.partition(".")
    named = {"name": "NAME", "": "", "run": "-- CMD", "with": given if given != "--" else "the command"}
    return f"{named.get(first) if first in named else '--' + first.replace('_', '-')}{dot}{rest}"


async def _all(client: Client) -> Sequence[Any]:
    schedules: list[Any] = []
    while page := await client.schedules.page(after=schedules[-1].name if schedules else ""):
        schedules += page
    return schedules


def _with_command(document: dict[str, Any], command: Sequence[str] | None, keeps: bool) -> dict[str, Any]:
    from qw.cli.options.values import directory, program_of
    from qw.core.errors import Fault

    if not command:
        return document
    if document["with"] or document.keys() & {"type", "workflow"}:
        raise Invalid(Fault(path="command", message="give exactly one of: a command, --type, --workflow"))
    return {**document, "type": "command", "with": program_of(command, directory(None), keeps=keeps)}


async def _add(client: Client, schedule: Schedule, replace: bool, output: OutputFormat, quiet: bool) -> None:
    from qw.cli.output.schedule_views import as_record, in_words

    id, change = await client.schedules.add(schedule, replace=replace)
    stored = await client.schedules.get(id)
    if quiet:
        print(stored.id)
    elif output is OutputFormat.TABLE:
        print(f"{stored.name} {change}: {in_words(stored)}")
    else:
        show_record({**as_record(stored), "change": change}, output)


async def _backfill(
    client: Client, name: str, times: tuple[str, str | None], dry_run: bool, yes: bool, output: OutputFormat
) -> int:
    from datetime import UTC, datetime

    from qw.cli.options.selection import confirm
    from qw.cli.options.values import past
    from qw.cli.output.schedule_views import show_fires

    since, until = past(times[0], "--since"), past(times[1], "--until") or datetime.now(UTC)
    assert since is not None
    planned = await client.schedules.backfill(name, since, until, dry_run=True)
    count = counted(len(planned.made), "tick")
    if not dry_run and planned.made:
        if not yes:
            confirm(f"Fire {count} of {name}?", count=count)
        planned = await client.schedules.backfill(name, since, until)
    say(f"{count} {'would fire' if dry_run else 'fired'}; {planned.known} had already")
    show_fires(planned.made, output, made=not dry_run)
    return 0
