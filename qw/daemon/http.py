"""HTTP in the daemon or on its own: passes the settings to `qw.web`."""

from __future__ import annotations

import asyncio
import logging
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qw import web
from qw.client import Client
from qw.config import Settings, check_listening, is_loopback
from qw.core.errors import Fault, Misconfigured

log = logging.getLogger(__name__)

CONNECTIONS = 8  # to the database; a pool of its own, so that requests cannot starve the workers
SHORTEST_TOKEN = 16  # characters
TIMEOUT = 2.0  # seconds a request waits for one of them


@asynccontextmanager
async def serving(
    settings: Settings,
    url: str,
    *,
    required: bool,
    process: web.ProcessHealth | None = None,
    read_only: bool = False,
) -> AsyncIterator[str | None]:
    """Serve HTTP while the context is open. Yields the address of the dashboard, to be printed on a terminal.

    If the port is in use and HTTP is not *required*, nothing is served: another daemon on this machine does it.
    """
    check_listening(settings)
    check_tokens(settings)
    opening = Client(url, size=CONNECTIONS, name="qw http", timeout=TIMEOUT, check_tasks=settings.check_tasks)
    async with opening as client:
        app = web.application(client, settings, _options(settings, process or web.ProcessHealth(), read_only=read_only))
        listening = web.serving(app, settings.host, settings.port)
        try:
            port = await listening.__aenter__()
        except Misconfigured as error:
            if required:
                raise
            # not a warning: the second daemon of a machine has nothing to mend
            log.info("HTTP server not started", extra={"reason": str(error), "effect": "none on tasks"})
            yield None
            return
        log.info("HTTP server started", extra={"address": f"http://{settings.host}:{port}"})
        address = f"http://{_reachable(settings.host)}:{port}/"
        if sys.stderr is not None and sys.stderr.isatty():
            print(f"dashboard: {address}", file=sys.stderr, flush=True)
        try:
            yield address
        finally:
            await listening.__aexit__(None, None, None)


def _reachable(host: str) -> str:
    """The host name under which a browser on this machine reaches it."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - nothing listens here
        return "localhost"
    return f"[{host}]" if ":" in host else host


async def open_in_browser(address: str) -> None:
    """Open the user's browser. If there is none, the printed address has to do."""
    await asyncio.to_thread(webbrowser.open, address)


def check_tokens(settings: Settings) -> None:
    """Raise Misconfigured for a weak token on a public address; warn of it on loopback."""
    short = [token.name for token in settings.api_tokens if len(token.secret) < SHORTEST_TOKEN]
    if not short:
        return
    names = ", ".join(short)
    message = f"the secret of {names} is shorter than {SHORTEST_TOKEN} characters; make one: openssl rand -hex 16"
    if not is_loopback(settings.host):
        raise Misconfigured(Fault(path="QW_API_TOKENS", message=message))
    log.warning("HTTP token is too short", extra={"setting": "QW_API_TOKENS", "error": message})


def _options(settings: Settings, process: web.ProcessHealth, *, read_only: bool) -> web.WebOptions:
    return web.WebOptions(
        seeder=settings.seeder and not settings.api_tokens,
        access_log=settings.access_log,
        read_only=read_only,
        process=process,
        thresholds=web.Thresholds(
            unhealthy_failed=settings.unhealthy_failed,
            unhealthy_pending=settings.unhealthy_pending,
            overloaded_failed=settings.overloaded_failed,
            overloaded_pending=settings.overloaded_pending,
        ),
    )
