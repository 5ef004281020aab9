"""``qw ui``: the dashboard without a worker."""

from __future__ import annotations

from typing import Annotated

import typer

from qw.cli.command import needs, verbs
from qw.core.rights import Right

app = verbs()


@app.command(cls=needs(Right.READ), epilog="Example: qw ui --port 8080 --read-only")
def ui(
    host: Annotated[str | None, typer.Option(help="Address the HTTP server listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port the HTTP server listens on.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every change.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
) -> None:
    """Serve the dashboard, and the API behind it, until interrupted. Runs no tasks."""
    from qw.cli.commands.api import serve_until_stopped
    from qw.cli.commands.daemon import loop_runner
    from qw.cli.settings import load_settings
    from qw.daemon.logs import set_up

    settings = load_settings(host=host, port=port)
    set_up(settings)
    with loop_runner() as runner:
        runner.run(serve_until_stopped(settings, migrate=False, read_only=read_only, open_browser=open_browser))
