"""``qw schedule``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import Output, OutputFormat, Quiet, print_lines, say, show_record, show_records
from qw.cli.output.text import counted

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.schedule import Schedule

app = verbs("Start tasks and workflows by the clock.")
importing = verbs("Turn what other schedulers have into schedules.")
app.add_typer(importing, name="import")

Name = Annotated[str, typer.Argument(metavar="NAME", help="See: qw schedule list.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="See: qw schedule list.")]


@app.command("list", cls=Verb, epilog="Example: qw schedule list")
def list_schedules(output: Output = OutputFormat.TABLE, quiet: Quiet = False) -> None:
    """List the schedules by name, with what they start and when next."""
    from qw.cli.output.schedule_views import SCHEDULE_COLUMNS, as_record
    from qw.cli.session import with_client

    found = with_client(_all)
    if quiet:
        print_lines(stored.name for stored in found)
    elif output is OutputFormat.TABLE:
        from qw.cli.output.tables import print_table

        print_table(SCHEDULE_COLUMNS, found)
    else:
        show_records([as_record(stored) for stored in found], output)


@app.command(
    "add",
    cls=Verb,
    epilog='Example: qw schedule add backup --cron "0 3 * * *" --timezone Europe/Berlin -- tar -czf /backup/home.tgz .',
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD [ARG]...]", help="A command to run.")] = None,
    cron: Annotated[str | None, typer.Option(metavar="EXPR", help="When: minute hour day month weekday.")] = None,
    every: Annotated[str | None, typer.Option(metavar="DURATION", help="When: 30s, 5m, 2h after each other.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When: once, at 2026-12-24T18:00.")] = None,
    timezone: Annotated[str | None, typer.Option(metavar="ZONE", help="Whose clocks count; UTC, unless given.")] = None,
    seconds: Annotated[bool, typer.Option("--seconds", help="The expression begins with a second.")] = False,
    type: Annotated[str | None, typer.Option("--type", "-t", help="What to start: a task of this type.")] = None,
    payload: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="The task's payload.")] = None,
    workflow: Annotated[str | None, typer.Option(help="What to start: a run of this workflow.")] = None,
    input: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="What the workflow asks for.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="The lane its tasks wait in.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", "-p", help="0 to 9; lower runs first.")] = None,
    max_retries: Annotated[int | None, typer.Option("--max-retries", help="Attempts of each task in all.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="Of each attempt.")] = None,
    misfire: Annotated[str | None, typer.Option(help="Missed ticks: skip, once (one for all) or all.")] = None,
    window: Annotated[str | None, typer.Option(metavar="DURATION", help="How late a missed tick may be: 1h.")] = None,
    cap: Annotated[int | None, typer.Option(help="The most missed ticks that fire: 100.")] = None,
    overlap: Annotated[str | None, typer.Option(help="While the last one is not over: allow, skip or cancel.")] = None,
    jitter: Annotated[str | None, typer.Option(metavar="DURATION", help="Put each tick off by up to this.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="No tick before.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="No tick after.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Begin paused.")] = False,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change it, where it exists.")] = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Add a schedule: say when (--cron, --every, --at) and what (--type, --workflow or a command)."""
    from qw.cli.options.values import json_object
    from qw.cli.session import with_client
    from qw.core.schedule.document import parse_schedule

    document: dict[str, Any] = {
        "cron": cron, "every": every, "at": at, "timezone": timezone, "type": type, "workflow": workflow,
        "queue": queue, "priority": priority, "max_retries": max_retries, "timeout": timeout, "misfire": misfire,
        "window": window, "cap": cap, "overlap": overlap, "jitter": jitter, "start": start, "end": end,
        "description": description, "seconds": seconds or None, "paused": paused or None,
        "with": json_object(payload or input, "--payload" if payload else "--input"),
    }  # fmt: skip
    schedule = parse_schedule(name, _with_command({key: v for key, v in document.items() if v is not None}, command))
    with_client(lambda client: _add(client, schedule, replace, output, quiet), creates=True)


@app.command("show", cls=Verb, epilog="Example: qw schedule show backup")
def show(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="So many of its last ticks.")] = 10,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a schedule: its next ticks, and what became of the last ones and why."""
    from qw.cli.output.schedule_views import show_schedule
    from qw.cli.session import with_client

    with_client(lambda client: show_schedule(client, name, limit, output))


@app.command("next", cls=Verb, epilog="Example: qw schedule next backup --count 20")
def next_ticks(
    name: Name,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many.")] = 10,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show its next ticks in local time and UTC, and what clock changes do to them."""
    from qw.cli.output.schedule_views import show_ticks
    from qw.cli.session import with_client

    show_ticks(with_client(lambda client: client.schedules.next(name, count=count)), output)


@app.command("pause", cls=Verb, epilog="Example: qw schedule pause backup")
def pause(names: Names) -> None:
    """Let no tick fire until it is resumed."""
    from qw.cli.session import with_client

    async def act(client: Client) -> None:
        for name in names:
            await client.schedules.pause(name)

    with_client(act)
    say(f"paused: {', '.join(names)}")


@app.command("resume", cls=Verb, epilog="Example: qw schedule resume backup")
def resume(names: Names) -> None:
    """Go on with the next tick; those that came meanwhile are skipped."""
    from qw.cli.session import with_client

    async def act(client: Client) -> None:
        for name in names:
            await client.schedules.resume(name)

    with_client(act)
    say(f"resumed: {', '.join(names)}")


@app.command("trigger", cls=Verb, epilog="Example: qw wait $(qw schedule trigger backup)")
def trigger(name: Name, output: Output = OutputFormat.TABLE) -> None:
    """Fire now, whatever its times say, and print the id of the task or run."""
    from qw.cli.session import with_client

    id = with_client(lambda client: client.schedules.trigger(name))
    print(id) if output is OutputFormat.TABLE else show_record({"id": id}, output)


@app.command("backfill", cls=Verb, epilog="Example: qw schedule backfill backup --since 2d --dry-run")
def backfill(
    name: Name,
    since: Annotated[str, typer.Option(metavar="TIME|DURATION", help="From then on: 2026-11-20T00:00Z, or 2d ago.")],
    until: Annotated[str | None, typer.Option(metavar="TIME|DURATION", help="To then; now, unless given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which ticks would fire.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Fire ticks of the past that did not fire; each at most once. 1,000 at a time, 31 days back."""
    from qw.cli.session import with_client

    raise typer.Exit(with_client(lambda client: _backfill(client, name, (since, until), dry_run, yes, output)))


@app.command("remove", cls=Verb, epilog="Example: qw schedule remove backup")
def remove(names: Names) -> None:
    """Delete schedules. What they made goes on."""
    from qw.cli.session import with_client

    async def act(client: Client) -> None:
        for name in names:
            await client.schedules.remove(name)

    with_client(act)
    say(f"removed: {', '.join(names)}")


@importing.command("crontab", cls=Verb, epilog="Example: crontab -l | qw schedule import crontab -")
def import_crontab(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A user's crontab, as crontab -l prints it.")],
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Of its times; this machine's, unless given.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="What the names begin with.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Add them; else they are only shown.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Change those that exist.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Turn a crontab into schedules that run its commands. Shows them first; --yes adds them."""
    from qw.cli.commands.schedule_crontab import local_zone, read, show
    from qw.cli.session import with_client
    from qw.core.schedule.crontab import parse_crontab

    crontab = parse_crontab(read(file), timezone=timezone or local_zone(), home=str(Path.home()), prefix=prefix)
    show(crontab, output)
    if not yes:
        say(f"nothing is added yet; add {counted(len(crontab.schedules), 'schedule')} with --yes")
        return
    with_client(lambda client: _add_all(client, crontab.schedules, replace), creates=True)


async def _all(client: Client) -> Sequence[Any]:
    found: list[Any] = []
    while page := await client.schedules.page(after=found[-1].name if found else ""):
        found += page
    return found


def _with_command(document: dict[str, Any], command: Sequence[str] | None) -> dict[str, Any]:
    import os

    from qw.core.errors import Fault, Invalid

    if not command:
        return document
    if document["with"] or document.keys() & {"type", "workflow"}:
        raise Invalid(Fault(path="command", message="give a command, or --type, or --workflow: one of them"))
    return {**document, "type": "command", "with": {"argv": list(command), "cwd": os.getcwd()}}


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


async def _add_all(client: Client, schedules: Sequence[Schedule], replace: bool) -> None:
    for schedule in schedules:
        _, change = await client.schedules.add(schedule, replace=replace)
        say(f"{schedule.name}: {change}")


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
