"""``qw daemon``"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import needs, verbs
from qw.core.errors import Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.config import Settings
    from qw.daemon.daemon import Daemon

log = logging.getLogger(__name__)

app = verbs()


@app.command(cls=needs(Right.WORK), epilog="Example: qw daemon --queues default,mail --concurrency 50 --drain")
def daemon(
    queues: Annotated[
        str | None,
        typer.Option("--queues", "-q", metavar="NAME,...", help="Queues to serve. Default: all, including new ones."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Maximum number of async handlers running at once.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Maximum number of synchronous handlers (threads) running at once.")
    ] = None,
    command_slots: Annotated[
        int | None, typer.Option("--command-slots", help="Maximum number of commands running at once.")
    ] = None,
    sibling: Annotated[bool, typer.Option("--sibling", hidden=True)] = False,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Number of worker processes, each with its own slots.")
    ] = 1,
    drain: Annotated[bool, typer.Option("--drain", help="Stop when no task is waiting or running.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart when a .py, .yaml or .toml file here changes; for development.")
    ] = False,
    handlers: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:ATTR", help="The qw.Handlers object with your handlers.")
    ] = None,
    workflows: Annotated[
        list[Path] | None,
        typer.Option(
            "--workflows",
            metavar="FILE",
            help="Definition file. Default: ./workflows.yaml, or the one shipped with qw.",
        ),
    ] = None,
    allow_commands: Annotated[
        bool | None, typer.Option(help="Allow tasks that run commands stored in the database.", show_default=False)
    ] = None,
    http: Annotated[
        bool | None,
        typer.Option(
            "--http/--no-http", help="Serve the HTTP API. Default: yes, unless the port is in use.", show_default=False
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address the HTTP server listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port the HTTP server listens on.")] = None,
    migrate: Annotated[bool, typer.Option("--migrate", help="Migrate an older schema first.")] = False,
    lease: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Lease: how long a worker keeps its tasks without a heartbeat."),
    ] = None,
    grace: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long running tasks may take to finish at shutdown.")
    ] = None,
    wait_for_database: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long to wait for the database at start. Default: without limit."),
    ] = None,
    broker: Annotated[
        str | None, typer.Option(metavar="NAME", help="Event broker: postgres, rabbitmq, nats, redis or none.")
    ] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", metavar="text|json", help="Log format.")] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", metavar="LEVEL", help="Log level, debug to error.")
    ] = None,
) -> None:
    """Run a worker until it is stopped.

    SIGTERM or ^C waits for running tasks; a second signal interrupts them and a third ends the daemon at once. SIGHUP
    reloads the definition files.
    """
    from qw.cli.settings import load_settings

    settings = load_settings(
        broker=broker,
        queues=queues,
        concurrency=concurrency,
        threads=threads,
        command_slots=command_slots,
        allow_commands=allow_commands,
        lease=lease,
        grace=grace,
        log_format=log_format,
        log_level=log_level,
        host=host,
        port=port,
        wait_for_database=wait_for_database,
    )
    if http is None and (port is not None or "port" in settings.origins):
        http = True  # a port given explicitly implies --http
    if reload:
        from qw.cli.commands.daemon_reload import keep_reloading

        if processes > 1 or drain:
            raise Invalid("--reload cannot be combined with --processes or --drain")
        raise typer.Exit(keep_reloading([word for word in sys.argv[1:] if word != "--reload"], settings))
    if processes > 1:
        from qw.cli.commands.daemon_processes import keep
        from qw.web import check_free

        if http:
            check_free(settings.host, settings.port)
        raise typer.Exit(keep(processes, [*_words_for_a_child(sys.argv[1:]), "--sibling"], settings))
    if sibling and http:
        http = None  # another of the processes may have the port
    from qw.daemon.event_loop import run
    from qw.daemon.logs import set_up

    set_up(settings)
    run(_run(settings, handlers, workflows or [], drain=drain, migrate=migrate, http=http))


EXIT_SECONDS = 3.0  # limit for threads that handlers left running and for atexit functions


def _words_for_a_child(words: list[str]) -> list[str]:
    """Return the words of this command line without ``--processes N``."""
    kept, skip = [], False
    for word in words:
        if skip or word == "--processes":
            skip = not skip
        elif not word.startswith("--processes="):
            kept.append(word)
    return kept


def loop_runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _run(
    settings: Settings, handlers: str | None, files: list[Path], *, drain: bool, migrate: bool, http: bool | None
) -> None:
    from qw.cli.definition_files import of_files, of_start
    from qw.daemon.daemon import Daemon, DaemonOptions
    from qw.daemon.database import find, prepare
    from qw.daemon.exit_deadline import ExitDeadline
    from qw.daemon.forks import guard_forks
    from qw.daemon.startup import waiting_for_database

    guard_forks()
    hangups = asyncio.Event()
    had_terminal = os.isatty(2)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangups.set)
    definitions = of_files(files)
    database = await find(settings)
    deadline = ExitDeadline()

    async def start() -> Daemon:
        await prepare(database, migrate=migrate)
        options = DaemonOptions(
            app=handlers, definitions=definitions or await of_start(database.url), until_drained=drain, http=http
        )
        return await Daemon(settings, database, options, exit_deadline=deadline).__aenter__()

    starting = asyncio.ensure_future(waiting_for_database(start, limit=settings.wait_for_database))
    stop_starting_on_signals(starting)
    hung_up = asyncio.create_task(hangups.wait())
    await asyncio.wait([starting, hung_up], return_when=asyncio.FIRST_COMPLETED)
    hung_up.cancel()
    if had_terminal and not os.isatty(2):
        starting.cancel()
    await asyncio.wait([starting])
    if starting.cancelled():
        log.info("stopped before it was ready")
        return
    started = starting.result()
    stop_on_signals(started)
    hearing = asyncio.create_task(reload_on_hangup(started, files, hangups, had_terminal=had_terminal))
    try:
        calm_collector()
        await started.run()
    finally:
        hearing.cancel()
        await started.__aexit__()
    deadline.allow(EXIT_SECONDS)


def calm_collector() -> None:
    """Make cyclic garbage collection rarer: tasks leave no cycles, and looking for them takes an eighth of a no-op's
    time.

    The garbage of the start stays: it is 800 objects, and collecting them would delay each start by 0.1 s.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def stop_starting_on_signals(starting: asyncio.Future[Any]) -> None:
    """Cancel the start on the first signal: no task runs yet."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, starting.cancel)


def stop_on_signals(daemon: Daemon) -> None:
    """Drain on the first signal, interrupt running handlers on the second, exit at once on the third."""
    from qw.daemon.event_loop import on_signals

    steps: list[Callable[[], None]] = [daemon.drain, daemon.hurry]

    def stop(number: signal.Signals) -> None:
        if not steps:
            os._exit(128 + number)
        steps.pop(0)()

    on_signals({number: partial(stop, number) for number in (signal.SIGTERM, signal.SIGINT)})


async def reload_on_hangup(daemon: Daemon, files: list[Path], hangups: asyncio.Event, *, had_terminal: bool) -> None:
    """On SIGHUP reload the definition files; if one is invalid, nothing changes. If the terminal was closed, drain
    instead.
    """
    from qw.cli.definition_files import of_files
    from qw.core.errors import QwError

    while await hangups.wait():
        hangups.clear()
        if had_terminal and not os.isatty(2):
            daemon.drain()
            return
        try:
            await daemon.reload(of_files(files))
        except QwError as error:
            log.error("definition files not reloaded", extra={"error": str(error)})
