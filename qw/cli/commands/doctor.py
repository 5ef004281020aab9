"""``qw doctor``"""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qw import __version__
from qw.cli.command import needs, verbs
from qw.cli.output.records import Output, OutputFormat, record, show_records
from qw.cli.output.text import counted, off_by, printable, span
from qw.clock import clock as database_clock
from qw.core.errors import Denied, Misconfigured, QwError
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.config import Settings
    from qw.daemon.database import Database
    from qw.store.doctor import ServerFacts, WorkFacts

app = verbs()

OLDEST_SERVER = 150000
MOST_SKEW = timedelta(seconds=5)
LONG_TRANSACTION = timedelta(minutes=5)
LEAST_DISK = 1024**3  # bytes


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check. A ``fix`` means that the check found a problem."""

    name: str
    text: str
    fix: str = ""

    @property
    def is_problem(self) -> bool:
        return bool(self.fix)


@app.command(cls=needs(Right.READ), epilog="Example: qw doctor || true")
def doctor(output: Output = OutputFormat.TABLE) -> None:
    """Check the installation and suggest fixes. Exit 1 if a problem is found."""
    findings = asyncio.run(_collected())
    if output is OutputFormat.TABLE:
        _print(findings)
    else:
        show_records([{**record(finding), "is_problem": finding.is_problem} for finding in findings], output)
    raise typer.Exit(int(any(finding.is_problem for finding in findings)))


async def _collected() -> list[Finding]:
    return [finding async for finding in _findings()]


async def _findings() -> AsyncIterator[Finding]:
    """Run the checks in order of dependency; stop after the first that fails."""
    from qw.cli.settings import load_settings

    yield Finding(name="qw", text=f"{__version__} on Python {platform.python_version()}")
    try:
        settings = load_settings()
    except QwError as error:
        yield Finding(name="settings", text=str(error), fix="correct the settings; list them with: qw config show")
        return
    yield Finding(name="settings", text=f"{counted(len(settings.origins), 'setting')} set, the rest are defaults")
    try:
        async for finding in _of_database(settings):
            yield finding
    except QwError as error:
        yield Finding(name="database", text=str(error), fix=_fix_of(error))


async def _of_database(settings: Settings) -> AsyncIterator[Finding]:
    from qw.daemon.database import find
    from qw.store import doctor

    place = await find(settings, create=False)
    server = await doctor.server(place.url)
    for finding in (*_of_server(server), *_of_disk(settings, place)):
        yield finding
    yield await _of_listening(settings, place, server)
    schema = await _of_schema(place)
    yield schema
    if schema.is_problem:
        return
    try:
        work = await doctor.work(place.url)
    except Denied as error:
        text = f"this role cannot read workers, queues and schedules ({error}); it can still enqueue"
        yield Finding(name="rights", text=f"{text}; the owner can allow it: qw db grant ROLE read")
        return
    for finding in _of_work(work, settings.lease):
        yield finding


def _fix_of(error: QwError) -> str:
    fixes = {
        "unavailable": "start the server, or set QW_DATABASE_URL",
        "denied": "correct user and password in QW_DATABASE_URL, or ask the owner for the right: qw db grant",
    }
    return fixes.get(error.code, "see the message")


def _of_server(server: ServerFacts) -> Iterator[Finding]:
    version = f"PostgreSQL {server.version // 10000}.{server.version % 10000}, {server.bytes / 1024**2:,.0f} MiB"
    too_old = "use PostgreSQL 15 or newer" if server.version < OLDEST_SERVER else ""
    yield Finding(name="database", text=version, fix=too_old)
    if not server.is_writable:
        yield Finding(name="writes", text="the server is read-only", fix="set QW_DATABASE_URL to the primary")
    ahead = "ahead of" if server.skew > timedelta(0) else "behind"
    skew = abs(server.skew)
    fix = "set both clocks by NTP; until then qw goes by the server's" if skew > MOST_SKEW else ""
    yield Finding(name="clock", text=f"the server is {span(skew)} {ahead} this machine", fix=fix)
    oldest = server.oldest_transaction
    fix = "end it: vacuum cannot remove dead rows until then; see pg_stat_activity" if oldest > LONG_TRANSACTION else ""
    hidden = f"; {server.hidden} sessions of other roles are hidden from this one: grant pg_read_all_stats to it"
    text = f"the oldest is {span(oldest)} old{hidden if server.hidden else ''}"
    yield Finding(name="transactions", text=text, fix=fix)


def _of_disk(settings: Settings, place: Database) -> Iterator[Finding]:
    if place.is_private:
        from qw import embedded

        home = embedded.place(settings.home)
        free = shutil.disk_usage(_existing(home)).free
        fix = "free disk space, or move the directory with QW_HOME" if free < LEAST_DISK else ""
        yield Finding(name="disk", text=f"{free / 1024**3:,.1f} GiB free in {home}", fix=fix)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


async def _of_listening(settings: Settings, place: Database, server: ServerFacts) -> Finding:
    from qw.store import doctor

    if server.is_pooled and settings.listen_url is None:
        text = "behind a connection pooler: no LISTEN and no session locks, so reactions are slower"
        return Finding(name="listen", text=text, fix="set QW_LISTEN_URL to a direct address of the server")
    if await doctor.hears(place.direct_url or place.url):
        return Finding(name="listen", text="a NOTIFY arrives")
    return Finding(name="listen", text="no NOTIFY arrives", fix="set QW_LISTEN_URL to a direct address of the server")


async def _of_schema(place: Database) -> Finding:
    from qw.store import migrations

    try:
        await migrations.check(place.url)
    except Misconfigured as error:
        text, _, fix = str(error).partition("; run: ")
        return Finding(name="schema", text=text, fix=fix or "see the message")
    return Finding(name="schema", text="up to date")


def _of_work(work: WorkFacts, lease: timedelta) -> Iterator[Finding]:
    now = database_clock.now()
    silent = [worker for worker in work.workers if now - worker.seen_at > lease]
    if silent:
        names = ", ".join(f"{worker.id} ({worker.host}:{worker.pid})" for worker in silent)
        yield Finding(
            name="workers", text=f"no heartbeat for a lease: {names}", fix="check whether they hang, and restart them"
        )
    elif work.workers or not work.waiting:
        yield Finding(name="workers", text=f"{counted(len(work.workers), 'worker')} living")
    else:
        yield Finding(name="workers", text="tasks are waiting and no worker is running", fix="qw daemon")
    if off := [worker for worker in work.workers if abs(worker.skew) > MOST_SKEW]:
        names = ", ".join(f"{worker.id} ({worker.host}: {off_by(worker.skew)})" for worker in off)
        yield Finding(name="clocks", text=f"workers whose clocks are off the server's: {names}", fix="set them by NTP")
    for worker in work.workers:
        if worker.trouble:
            text = f"worker {worker.id} ({worker.host}:{worker.pid}) cannot work: {worker.trouble}"
            yield Finding(
                name="trouble", text=text, fix="correct what the database reports; the worker then continues by itself"
            )
    if work.workers:
        yield from _of_waiting(work)
    if work.late:
        name, late = work.late[0]
        others = f", and {counted(len(work.late) - 1, 'other')}" if len(work.late) > 1 else ""
        fix = "check the logs of the daemons" if work.workers else "qw daemon"
        yield Finding(name="schedules", text=f"{name} is {span(late)} late{others}", fix=fix)
    if blocked := work.blocked.count:
        yield Finding(
            name="events",
            text=f"{counted(blocked, 'event')} cannot be published: {work.blocked.reason}",
            fix="fix the cause, or discard them: qw events blocked, qw events drop",
        )
    yield from _of_brokers(work)
    for name, dead in work.dead:
        yield Finding(
            name="vacuum",
            text=f"qw.{name} has {dead:,} dead rows",
            fix=f"end long transactions, then: vacuum qw.{name}",
        )


_BROKER_FIXES = {
    "unreachable": "start it, or correct its address in QW_BROKER_URL",
    "login": "correct user and password in QW_BROKER_URL, then restart the daemons",
    "setup": "make there what the message asks for, or allow it to the user of QW_BROKER_URL",
}


def _of_brokers(work: WorkFacts) -> Iterator[Finding]:
    for part in {(part.broker, part.error): part for part in work.brokers if part.state == "down"}.values():
        fix = _BROKER_FIXES.get(part.reason or "", "see the message; events wait meanwhile")
        yield Finding(name="broker", text=part.error or f"{part.broker} is down", fix=fix)
    if work.brokers and not any(part.state == "down" for part in work.brokers):
        yield Finding(name="broker", text=", ".join(sorted({part.broker for part in work.brokers})))


def _of_waiting(work: WorkFacts) -> Iterator[Finding]:
    types = {type for worker in work.workers for type in worker.types}
    everything = any(not worker.queues for worker in work.workers)
    queues = {queue for worker in work.workers for queue in worker.queues}
    unserved = sorted({type for _, type in work.waiting} - types)
    alone = [] if everything else sorted({queue for queue, _ in work.waiting} - queues)
    if unserved:
        yield Finding(
            name="types",
            text=f"waiting tasks of types that no worker serves: {', '.join(unserved)}",
            fix="qw daemon --app …",
        )
    if alone:
        fix = f"qw daemon --queues {','.join(alone)}"
        yield Finding(name="queues", text=f"queues with tasks and without a worker: {', '.join(alone)}", fix=fix)
    if not unserved and not alone:
        yield Finding(name="queues", text="a worker serves every waiting task")


def _print(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    from qw.cli.output.tables import STYLES, print_value

    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        state = "problem" if finding.is_problem else "ok"
        title = Text.assemble((f"{state:7}", STYLES[state]), f"  {finding.name:{width}}  ")
        print_value(title, Text(printable(finding.text)))
        if finding.fix:
            print_value(Text(" " * len(title)), Text(printable(finding.fix), style="cyan"))
