"""Handlers that do not let the daemon go. What the daemon allows them is shortened here, for the tests' sake."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time

from qw import Context, Handlers
from qw.cli.commands import daemon as command
from qw.daemon import drain
from tests.e2e.fault_app import mark

drain.STOP_SECONDS = drain.THREAD_SECONDS = 0.3
drain.SLACK_SECONDS = 0.5
command.EXIT_SECONDS = 0.5

app = Handlers()
LONG = 60.0


@app.handler("swallow")
async def swallow(*, context: Context) -> None:
    """Heed no cancellation."""
    mark(context, "begin")
    while True:
        try:
            await asyncio.sleep(LONG)
        except BaseException:
            continue


@app.handler("swallow_time_out", timeout=0.2)
async def swallow_time_out(*, context: Context) -> None:
    mark(context, "begin")
    while True:
        try:
            await asyncio.sleep(LONG)
        except BaseException:
            continue


@app.handler("to_thread")
async def to_thread(*, context: Context) -> None:
    """Wait for a thread of the event loop's executor."""
    mark(context, "begin")
    await asyncio.to_thread(time.sleep, LONG)


@app.handler("own_thread")
async def own_thread(*, context: Context) -> None:
    """Wait for a thread that is joined at the interpreter's exit."""
    mark(context, "begin")
    threading.Thread(target=time.sleep, args=[LONG]).start()
    await asyncio.sleep(LONG)


@app.handler("plain")
def plain(*, context: Context) -> None:
    """Sit in a thread."""
    mark(context, "begin")
    time.sleep(LONG)


@app.handler("block")
async def block(*, context: Context) -> None:
    """Hold the event loop."""
    mark(context, "begin")
    time.sleep(LONG)


@app.handler("polite")
async def polite(*, context: Context) -> None:
    """Stop when told to."""
    mark(context, "begin")
    await asyncio.sleep(LONG)


@app.handler("leaves_thread")
async def leaves_thread() -> None:
    """Complete, and leave a thread behind that the interpreter waits for; and something that hangs at its exit."""
    threading.Thread(target=time.sleep, args=[LONG]).start()
    atexit.register(time.sleep, LONG)
