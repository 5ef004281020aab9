"""``qw events``"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from qw.cli.command import needs, noun
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, dumped, record, say, show_all, show_record, show_records
from qw.cli.output.text import ago, clock, counted, printable, span
from qw.core.rights import Right
from qw.core.task.masking import masked_text

if TYPE_CHECKING:
    from qw.client import Client
    from qw.client.events import Relaying, RelayOverview
    from qw.store.events import ConsumerState, LoggedEvent

app = noun("events")

Type = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="Only events of this type: task.failed or a pattern such as 'task.*'."),
]
Task = Annotated[str | None, typer.Option("--task", metavar="ID", help="Only events of this task.")]


@app.command("tail", cls=needs(Right.READ), epilog="Example: qw events tail --type 'task.*'")
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new events until interrupted.")] = False,
    type: Type = None,
    task: Task = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start time, or age such as 10m. Default: 1h.")
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show events from the event log.

    The log is kept while it is being read, or as set by QW_EVENT_LOG or QW_BROKER=postgres.
    """
    from qw.cli.options.values import past
    from qw.cli.session import with_client

    begin = past(since or "1h", "--since")
    assert begin is not None
    with_client(lambda client: _tail(client, follow, type, task, begin, output))


async def _tail(
    client: Client, follow: bool, type: str | None, task: str | None, since: datetime, output: OutputFormat
) -> None:
    id = await client.tasks.resolve(task, path="--task") if task else None
    place = await client.events.first_since(since)
    if follow:
        async for event in client.events.follow(place, type=type, task_id=id):
            _print(event, output)
            sys.stdout.flush()
    kept = await _kept(client, place, type, id)
    if not kept:
        say("no matching events; the log is kept while it is being read (--follow), or as set by QW_EVENT_LOG")
    if output is OutputFormat.JSON:
        show_records([_record(event) for event in kept], output)
    for event in [] if output is OutputFormat.JSON else kept:
        _print(event, output)


async def _kept(client: Client, place: int, type: str | None, id: UUID | None) -> list[LoggedEvent]:
    from qw.client.events import BATCH

    kept: list[LoggedEvent] = []
    while page := await client.events.after(place, limit=BATCH, type=type, task_id=id):
        kept += page
        place = page[-1].id
    return kept


def _print(event: LoggedEvent, output: OutputFormat) -> None:
    if output is not OutputFormat.TABLE:
        print(dumped(_record(event)))
        return
    said: Any = event.body.get("data", {})
    what = said.get("taskType") or said.get("workflow") or ""
    error = f"  {said['error']}" if said.get("error") else ""
    subject = event.task_id or event.run_id or ""
    print(printable(f"{clock(event.at)}  {event.type:22} {subject!s:36}  {what}{error}".rstrip()))


def _record(event: LoggedEvent) -> Any:
    return record({"place": event.id, **event.body})


@app.command("replay", cls=needs(Right.OPERATE), epilog="Example: qw events replay --since 10m --type 'task.*'")
def replay(
    since: Annotated[str, typer.Option(metavar="TIME", help="Start time, or age such as 10m.")],
    type: Type = None,
    task: Task = None,
) -> None:
    """Publish events from the log again, with their original ids."""
    from qw.cli.options.values import past
    from qw.cli.session import with_client

    begin = past(since, "--since")
    assert begin is not None

    async def work(client: Client) -> None:
        id = await client.tasks.resolve(task, path="--task") if task else None
        count = await client.events.replay(begin, type=type, task_id=id)
        if count and not await client.events.relays():
            say(f"{counted(count, 'event')} waiting for a daemon that relays events: qw daemon, with QW_BROKER set")
        else:
            say(f"{counted(count, 'event')} queued for publishing again")

    with_client(work)


LATE = timedelta(seconds=1)  # younger events are about to be published

STATE_COLUMNS = (
    Column(title="broker", text=lambda part: part.broker),
    Column(title="takes", text=lambda part: _role(part)),
    Column(title="state", text=lambda part: part.state, is_status=True),
    Column(title="since", text=lambda part: clock(part.since), rank=2),
    Column(title="waiting", text=lambda part: _pending(part), right=True),
    Column(title="oldest", text=lambda part: _oldest(part), rank=1, right=True),
    Column(title="worker", text=lambda part: str(part.worker), rank=4, right=True),
    Column(title="error", text=lambda part: masked_text(part.error or ""), rank=3, loose=True),
)


def _role(part: RelayOverview | ConsumerState) -> str:
    return f"commands from {part.queue}" if hasattr(part, "queue") else "events"


def _pending(part: RelayOverview | ConsumerState) -> str:
    count: int | None = getattr(part, "pending", None)
    return "" if count is None else "10,000+" if count >= 10_000 else f"{count:,}"


def _oldest(part: RelayOverview | ConsumerState) -> str:
    oldest: datetime | None = getattr(part, "oldest", None)
    return "" if oldest is None else ago(oldest)


@app.command("state", cls=needs(Right.READ), epilog="Example: qw events state")
def state(output: Output = OutputFormat.TABLE) -> None:
    """Show the state and lag of the daemons that publish events, and the consumers of commands."""
    from qw.cli.session import with_client

    relaying = with_client(lambda client: client.events.relaying())
    if output is OutputFormat.TABLE:
        print_relaying(relaying)
    else:
        show_record(relaying_record(relaying), output)


BLOCKED_COLUMNS = (
    Column(title="id", text=lambda event: str(event.id), right=True),
    Column(title="type", text=lambda event: event.type),
    Column(title="of", text=lambda event: str(event.task_id or event.run_id or ""), rank=1),
    Column(title="since", text=lambda event: clock(event.blocked_at), rank=2),
    Column(title="tries", text=lambda event: str(event.tries), rank=3, right=True),
    Column(title="behind", text=lambda event: str(event.behind), right=True),
    Column(title="reason", text=lambda event: event.reason, loose=True),
)


@app.command("blocked", cls=needs(Right.READ), epilog="Example: qw events blocked")
def blocked(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Maximum number of rows.")] = 100,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List events that cannot be published: their row is broken, or the broker, the log or a webhook rejects them.

    Each is retried at least once a minute. Only later events of the same task or run wait for it.
    """
    from qw.cli.session import with_client

    events = with_client(lambda client: client.events.blocked(limit=limit))
    show_all(events, BLOCKED_COLUMNS, output)


@app.command("drop", cls=needs(Right.OPERATE), epilog="Example: qw events blocked")
def drop(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers of events, as shown by qw events blocked.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="All blocked events.")] = False,
) -> None:
    """Discard blocked events without publishing them. Later events that wait for them are then published."""
    from qw.cli.session import with_client
    from qw.core.errors import Fault, Invalid

    if bool(ids) == all:
        raise Invalid(Fault(path="ID", message="name the events to drop, or --all"))
    dropped = with_client(lambda client: client.events.drop_blocked(ids or None))
    say(f"{counted(len(dropped), 'event')} dropped")


def relaying_record(relaying: Relaying) -> dict[str, Any]:
    return {
        "relays": record(relaying.relays),
        "consumers": record(relaying.consumers),
        "unpublished": relaying.unpublished,
        "oldest_seconds": relaying.oldest.total_seconds() if relaying.oldest else None,
        "blocked": record(relaying.blocked),
    }


def print_relaying(relaying: Relaying) -> None:
    """Print a row for each daemon that publishes events or consumes commands, and the overdue and blocked events."""
    from qw.cli.output.tables import print_table

    if relaying.relays or relaying.consumers:
        print_table(STATE_COLUMNS, [*relaying.relays, *relaying.consumers])
    if relaying.oldest and (relaying.oldest > LATE or not relaying.relays):
        print(f"{counted(relaying.unpublished, 'event')} not published yet, the oldest {span(relaying.oldest)} old")
    if relaying.blocked.count:
        since = f"since {clock(relaying.blocked.since)}" if relaying.blocked.since else ""
        count = counted(relaying.blocked.count, "event")
        print(printable(f"{count} cannot be published {since}: {relaying.blocked.reason}; see: qw events blocked"))
    if not relaying.relays:
        print("no daemon publishes events; start one with: qw daemon, with QW_BROKER set")
