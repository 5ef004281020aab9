"""``qw daemon --processes N``: a parent process that runs and supervises N daemon processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qw.config import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a crashed child is restarted
STEADY = 60.0  # seconds of running after which the pause is FIRST_PAUSE again
HOPELESS = (2, 78)  # exit codes that a restart would only repeat: usage error, configuration error
OVERDUE = 30.0  # seconds after the grace period until a running child is killed
_PR_SET_PDEATHSIG = 1


def keep(count: int, words: list[str], settings: Settings) -> int:
    """Run *count* daemons with the command line *words* until a signal stops them. Return the exit code."""
    from qw.daemon.logs import set_up

    set_up(settings)
    return asyncio.run(_Children([sys.executable, "-m", "qw", *words], settings.grace.total_seconds()).run(count))


class _Children:
    def __init__(self, command: Sequence[str], grace: float) -> None:
        self._command = command
        self._grace = grace
        self._stopping = asyncio.Event()
        self._stops: list[signal.Signals] = []  # signals received, in order
        self._living: set[asyncio.subprocess.Process] = set()

    async def run(self, count: int) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._send, signal.SIGHUP)  # the children handle it
        codes = await asyncio.gather(*(self._keep(place) for place in range(count)))
        return next((code for code in codes if code in HOPELESS), max(codes))

    def _stop(self, number: signal.Signals) -> None:
        """Pass the signal on. Each child counts its signals itself: drain, interrupt, exit."""
        self._stopping.set()
        self._stops.append(number)
        self._send(number)
        if len(self._stops) == 1:
            asyncio.get_running_loop().call_later(self._grace + OVERDUE, self._send, signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for child in self._living:
            with contextlib.suppress(ProcessLookupError):  # it exited, but wait() has not returned yet
                child.send_signal(number)

    async def _keep(self, place: int) -> int:
        """Run one child and restart it after each crash. Return the exit code of the last one."""
        pause = FIRST_PAUSE
        while True:
            started = time.monotonic()
            code = await self._run_one()
            if -code in self._stops:  # the signal arrived before the child handled it
                return 0
            if self._stopping.is_set() or code == 0:
                return code if code >= 0 else 128 - code
            if code in HOPELESS:
                self._stop(signal.SIGTERM)
                return code
            pause = FIRST_PAUSE if time.monotonic() - started > STEADY else min(pause * 2, LONGEST_PAUSE)
            log.warning("worker process exited; restarting it", extra={"place": place, "code": code, "after": pause})
            if await self._is_stopped_within(pause):
                return 0

    async def _run_one(self) -> int:
        try:
            child = await asyncio.create_subprocess_exec(*self._command, start_new_session=True, preexec_fn=before_exec)
        except OSError as error:  # out of memory or processes: a later attempt may succeed
            log.error("a daemon cannot be started", extra={"error": str(error)})
            return 1
        self._living.add(child)
        try:
            for number in self._stops:  # signals that arrived while it was being started
                child.send_signal(number)
            return await child.wait()
        except ProcessLookupError:
            return await child.wait()
        finally:
            self._living.discard(child)

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False


def before_exec() -> None:
    """Have the kernel send SIGTERM to the child if the parent dies (Linux). Ignore SIGHUP until the child handles
    it.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
