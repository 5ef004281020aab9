"""``qw api``: the HTTP API without a worker."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, verbs
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.config import Settings

app = verbs()


@app.command(cls=needs(Right.READ), epilog="Example: qw api --port 8080")
def api(
    host: Annotated[str | None, typer.Option(help="Address the HTTP server listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port the HTTP server listens on.")] = None,
    migrate: Annotated[bool, typer.Option("--migrate", help="Migrate an older schema first.")] = False,
    log_format: Annotated[str | None, typer.Option("--log-format", metavar="text|json", help="Log format.")] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", metavar="LEVEL", help="Log level, debug to error.")
    ] = None,
) -> None:
    """Serve the HTTP API without running tasks."""
    from qw.cli.commands.daemon import loop_runner
    from qw.cli.settings import load_settings
    from qw.daemon.logs import set_up

    settings = load_settings(host=host, port=port, log_format=log_format, log_level=log_level)
    set_up(settings)
    with loop_runner() as runner:
        runner.run(serve_until_stopped(settings, migrate=migrate))


async def serve_until_stopped(
    settings: Settings, *, migrate: bool, read_only: bool = False, open_browser: bool = False
) -> None:
    """Serve HTTP until SIGINT or SIGTERM arrives."""
    from qw.cli.commands.daemon import calm_collector
    from qw.daemon.database import find, prepare
    from qw.daemon.http import open_in_browser, serving
    from qw.daemon.startup import waiting_for_database

    database = await find(settings)
    starting = asyncio.ensure_future(
        waiting_for_database(lambda: prepare(database, migrate=migrate), limit=settings.wait_for_database)
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, starting.cancel)
    await asyncio.wait([starting])
    if starting.cancelled():
        return
    starting.result()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(settings, database.url, required=True, read_only=read_only) as address:
        calm_collector()
        if open_browser and address:
            await open_in_browser(address)
        await stopped.wait()
