"""Handlers that misbehave on request. Each writes a line to the file named in QW_TEST_MARKS when it begins and ends."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from qw import Context, Handlers
from qw.core.task import Backoff

app = Handlers()


def mark(context: Context, word: str) -> None:
    with Path(os.environ["QW_TEST_MARKS"]).open("a") as marks:
        marks.write(f"{word} {context.task_id} {context.attempt} {context.idempotency_key} {os.getpid()}\n")


@app.handler("nap")
async def nap(seconds: float, *, context: Context) -> str:
    """Sleep."""
    mark(context, "begin")
    await asyncio.sleep(seconds)
    mark(context, "end")
    return f"attempt {context.attempt}"


@app.handler("stint", backoff=Backoff(delay=timedelta(milliseconds=50)))
async def stint(seconds: float, *, context: Context) -> str:
    """Sleep, and note when that began and ended, whatever ended it."""
    mark(context, f"begin@{time.time():.3f}")
    try:
        await asyncio.sleep(seconds)
    finally:
        mark(context, f"end@{time.time():.3f}")
    return f"attempt {context.attempt}"


@app.handler("grind", process=True)
def grind(file: str, seconds: float) -> str:
    """Work in a process of its own that ignores TERM, and note every 10 ms that it does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with Path(file).open("a") as lines:
            lines.write(f"{os.getpid()} {time.time():.3f}\n")
        time.sleep(0.01)
    return "done"


@app.handler("block")
async def block(seconds: float, *, context: Context) -> str:
    """Hold the event loop."""
    mark(context, "begin")
    time.sleep(seconds)
    mark(context, "end")
    return f"attempt {context.attempt}"


@app.handler("clutch")
async def clutch(seconds: float, *, context: Context) -> str:
    """Hold the interpreter's lock in C, on the first attempt only."""
    mark(context, "begin")
    if context.attempt == 1:
        ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    mark(context, "end")
    return f"attempt {context.attempt}"


@app.handler("flaky", backoff=Backoff(delay=timedelta(milliseconds=50)))
async def flaky(n: int, *, context: Context) -> str:
    """Fail at the first attempt of every third task."""
    mark(context, "begin")
    await asyncio.sleep(0.01)
    if n % 3 == 0 and context.attempt == 1:
        raise ValueError("the first attempt fails")
    mark(context, "end")
    return f"attempt {context.attempt}"


@app.handler("counted", backoff=Backoff(delay=timedelta(milliseconds=50)))
async def counted(n: int, *, context: Context) -> str:
    """Like flaky, but say too when an attempt ends without success."""
    mark(context, "begin")
    try:
        await asyncio.sleep(0.01)
        if n % 3 == 0 and context.attempt == 1:
            raise ValueError("the first attempt fails")
    finally:
        mark(context, "end")
    return f"attempt {context.attempt}"


@app.handler("doze")
def doze(seconds: float, *, context: Context) -> str:
    """Sleep in a thread, which nobody can stop."""
    mark(context, "begin")
    time.sleep(seconds)
    mark(context, "end")
    return f"attempt {context.attempt}"


@app.handler("once")
async def once(seconds: float, *, context: Context) -> str:
    """Have an effect, then take so long that the first attempt can be killed before its end is stored."""
    mark(context, "effect")
    if context.attempt == 1:
        await asyncio.sleep(seconds)
    return f"attempt {context.attempt}"


@app.handler("die", backoff=Backoff())
async def die(how: str, *, context: Context) -> None:
    """Take the process along, once the others that came with it have begun."""
    mark(context, "begin")
    await asyncio.sleep(0.2)
    match how:
        case "exit":
            os._exit(1)
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)


@app.batch(name="pile", size=4, wait=0.5, backoff=Backoff())
async def pile(items: list[dict[str, Any]], contexts: list[Context]) -> list[str]:
    """Many at once; an item takes the process along if it says so, and what is new takes as long as it says."""
    for context in contexts:
        mark(context, "begin")
    if any(item.get("how") == "exit" for item in items):
        os._exit(1)
    if contexts[0].attempt == 1:
        await asyncio.sleep(max(item.get("seconds", 0) for item in items))
    for context in contexts:
        mark(context, "end")
    return [f"attempt {context.attempt}" for context in contexts]


@app.handler("exit_later", backoff=Backoff(delay=timedelta(milliseconds=50)))
async def exit_later(way: str, *, context: Context) -> None:
    """Have something else call sys.exit(), or worse."""
    mark(context, "begin")
    loop = asyncio.get_running_loop()
    if way == "stop":
        loop.stop()
    if way == "protocol":  # nobody can tell whose it is
        reader, writer = os.pipe()
        loop.add_reader(reader, _exit_once, loop, reader)
        os.write(writer, b"x")
    if way == "cancel all":
        for task in asyncio.all_tasks():
            task.cancel()
    if way == "signals":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
    if way == "stderr":
        sys.stderr.close()
        sys.stdout.close()
    await asyncio.sleep(0.1)


def _exit_once(loop: asyncio.AbstractEventLoop, reader: int) -> None:
    loop.remove_reader(reader)
    sys.exit(1)
