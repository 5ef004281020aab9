"""Handlers that fork without exec. Each child that lives on writes its number into the file that is named."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

from qw import Handlers

app = Handlers()


def live_on(file: str) -> None:
    Path(f"{file}.new").write_text(str(os.getpid()))
    Path(f"{file}.new").rename(file)
    time.sleep(60)


@app.handler("fork")
async def fork(file: str) -> None:
    if os.fork() == 0:
        live_on(file)
        os._exit(0)
    while not Path(file).exists():
        time.sleep(0.01)


@app.handler("fork_in_thread")
def fork_in_thread(file: str) -> None:
    if os.fork() == 0:
        live_on(file)
        os._exit(0)
    while not Path(file).exists():
        time.sleep(0.01)


@app.handler("multiprocess")
def multiprocess(file: str) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=live_on, args=[file])
    child.start()
    while not Path(file).exists():
        time.sleep(0.01)
    child.terminate()
    child.join(10)
    return child.exitcode


@app.handler("come_back")
async def come_back() -> int:
    """Both processes go on in the event loop; what the child ends with is the result."""
    child = os.fork()
    if child == 0:
        return -1
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222


@app.handler("collect")
async def collect() -> int:
    """The child ends as the interpreter does, which finalises every connection that it knows."""
    import gc

    child = os.fork()
    if child == 0:
        from qw.store import sessions

        for session in list(sessions._open):
            session.pgconn.finish()
        gc.collect()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222
