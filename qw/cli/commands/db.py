"""``qw db``"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import Verb, needs, noun
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, print_lines, record, say, show_all, show_record
from qw.cli.output.text import iso
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.client import Client
    from qw.config import Settings
    from qw.store.migrations import Migration

app = noun("db")

_COLUMNS: Sequence[Column] = (
    Column(title="version", text=lambda migration: str(migration.version), right=True),
    Column(title="name", text=lambda migration: migration.name),
    Column(title="applied", text=lambda migration: iso(migration.applied_at) if migration.applied_at else "missing"),
)


@app.command(cls=needs(None), epilog="Example: qw db migrate")
def migrate(output: Output = OutputFormat.TABLE) -> None:
    """Migrate the schema. Safe to repeat, and safe while daemons are running."""
    from qw.cli.settings import load_settings

    applied = asyncio.run(_migrate(load_settings()))
    if output is OutputFormat.TABLE:
        say(f"applied {', '.join(migration.name for migration in applied)}" if applied else "the schema is up to date")
    else:
        show_record([_record(migration) for migration in applied], output)


@app.command(cls=needs(Right.ENQUEUE, Right.READ), epilog="Example: qw db status")
def status(output: Output = OutputFormat.TABLE) -> None:
    """List migrations and when each was applied. Exit 1 if one is missing."""
    from qw.cli.settings import load_settings

    known = asyncio.run(_status(load_settings()))
    if output is OutputFormat.TABLE:
        show_all(known, _COLUMNS, output)
    else:
        show_record([_record(migration) for migration in known], output)
    raise typer.Exit(int(any(migration.applied_at is None for migration in known)))


@app.command(cls=Verb, epilog="Example: qw db sql")
def sql() -> None:
    """Print the SQL of all migrations to stdout, to be applied manually."""
    from qw.store.migrations import known

    print_lines(f"-- {migration.name}\n{migration.text}" for migration in known())


@app.command(cls=Verb, epilog="Example: qw db start")
def start(output: Output = OutputFormat.TABLE) -> None:
    """Start the private PostgreSQL. Other commands start it when needed."""
    from qw import embedded
    from qw.cli.settings import load_settings
    from qw.daemon.database import ready

    settings = load_settings()
    data = embedded.place(settings.home) / "pg"
    place = asyncio.run(ready(settings))
    if not place.is_private:
        say("a database is configured, so there is no private PostgreSQL to start")
    elif output is OutputFormat.TABLE:
        say(f"PostgreSQL {'started' if place.started else 'runs'}; its data is in {data}")
        print(place.url)
    else:
        show_record({"url": place.url, "started": place.started, "data": str(data)}, output)


@app.command(cls=Verb, epilog="Example: qw db stop")
def stop() -> None:
    """Stop the private PostgreSQL. Its data is kept; the next command starts it again."""
    from qw import embedded
    from qw.cli.settings import load_settings

    settings = load_settings()
    data = embedded.place(settings.home) / "pg"
    was_running = embedded.stop(settings.home)
    say(f"PostgreSQL {'stopped' if was_running else 'was not running'}; its data is in {data}")


Role = Annotated[str, typer.Argument(metavar="ROLE", help="A role of PostgreSQL.")]
OneRight = Annotated[
    str, typer.Argument(metavar="enqueue|read|operate|work", help="operate and work include enqueue and read.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print the SQL.")]


@app.command(cls=needs(None), epilog="Example: qw db grant reader read --dry-run")
def grant(role: Role, right: OneRight, dry_run: DryRun = False) -> None:
    """Grant a right to a role: enqueue tasks, read everything, operate (retry, pause, apply), or work as a daemon."""
    from qw.cli.session import with_client

    statements = with_client(lambda client: _change(client, "grant", role, right, dry_run))
    if dry_run:
        print_lines(f"{statement};" for statement in statements)
    else:
        say(f"{role} has the right {right!r}")


@app.command(cls=needs(None), epilog="Example: qw db revoke reader read --dry-run")
def revoke(role: Role, right: OneRight, dry_run: DryRun = False) -> None:
    """Revoke a right of a role; it keeps its other rights."""
    from qw.cli.session import with_client

    statements = with_client(lambda client: _change(client, "revoke", role, right, dry_run))
    if dry_run:
        print_lines(f"{statement};" for statement in statements)
    else:
        say(f"{role} no longer has the right {right!r}")


@app.command(cls=Verb, epilog="Example: qw db rights")
def rights(output: Output = OutputFormat.TABLE) -> None:
    """List which roles were granted which rights."""
    from qw.cli.session import with_client

    granted = with_client(_granted)
    rows = [{"role": role, "rights": [right.value for right in held]} for role, held in granted.items()]
    if output is OutputFormat.TABLE:
        show_all(rows, _RIGHTS, output)
    else:
        show_record(rows, output)


_RIGHTS: Sequence[Column] = (
    Column(title="role", text=lambda row: row["role"]),
    Column(title="rights", text=lambda row: ", ".join(row["rights"])),
)


async def _change(client: Client, how: str, role: str, right: str, dry_run: bool) -> list[str]:
    change = {"grant": client.rights.grant, "revoke": client.rights.revoke}[how]
    return await change(role, right, dry_run=dry_run)


async def _granted(client: Client) -> dict[str, list[Right]]:
    return await client.rights.granted()


async def _migrate(settings: Settings) -> list[Migration]:
    from qw.daemon.database import find
    from qw.daemon.startup import opened_soon
    from qw.store import migrations

    place = await find(settings)
    return await opened_soon(lambda: migrations.migrate(place.url))


async def _status(settings: Settings) -> list[Migration]:
    from qw.daemon.database import find
    from qw.daemon.startup import opened_soon
    from qw.store import migrations

    place = await find(settings, create=False)
    return await opened_soon(lambda: migrations.status(place.url))


def _record(migration: Migration) -> dict[str, object]:
    return {"version": migration.version, "name": migration.name, "applied_at": record(migration.applied_at)}
