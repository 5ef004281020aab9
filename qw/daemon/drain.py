"""Stops a daemon within its grace period plus a few seconds, whatever handlers do.

1. No more claims; tasks that have not started return to their place.
2. Running tasks get the grace period. Then they are interrupted: coroutines are cancelled, commands get SIGTERM and
   later SIGKILL. Threads cannot be interrupted.
3. Once the interrupted handlers can no longer act, their tasks return to their old place without counting an attempt.
4. Tasks whose handlers still act a few seconds later are handed back by the last statement of the process, and become
   due shortly after it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from qw.core.errors import QwError
from qw.daemon.exit_deadline import ExitDeadline
from qw.daemon.threads import HandlerThreads
from qw.handlers import HandlerKind
from qw.services.events.relay import Relay
from qw.services.execution.in_flight import HandlerSlots, Stop
from qw.services.execution.outcomes import Outcomes
from qw.services.execution.worker import Worker
from qw.store import claims, workers
from qw.store.connection import connect_blocking

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # what interrupted handlers get to clean up
KILL_SECONDS = 3.0  # more for commands: they are killed 5 s after their TERM
THREAD_SECONDS = 1.0  # what is left in threads when all handlers are back
WRITE_SECONDS = 5.0  # for the last outcomes
RELAY_SECONDS = 5.0  # what the last events get to leave
SLACK_SECONDS = 3.0  # an event loop that is later than this with anything is blocked by a handler


@dataclass(frozen=True, kw_only=True)
class Drain:
    """The drain of one daemon. ``exit_deadline``: None if the daemon does not own its process."""

    worker: Worker
    slots: HandlerSlots
    outcomes: Outcomes
    threads: HandlerThreads
    relay: Relay | None
    grace: timedelta
    exit_deadline: ExitDeadline | None

    async def run(self, hurry: asyncio.Event) -> None:
        worker = self.worker
        worker.draining = True
        worker.return_unstarted()
        log.info("draining", extra={"running": worker.running, "grace": str(self.grace)})
        await _until(lambda: not worker.running, self.grace.total_seconds(), hurry)
        self._allow(STOP_SECONDS + KILL_SECONDS + THREAD_SECONDS + WRITE_SECONDS)
        worker.interrupt_all(Stop.DRAIN, "the daemon is stopping")
        await _until(lambda: not worker.running, STOP_SECONDS)
        await _until(lambda: not self.slots.is_taken(HandlerKind.PROCESS), KILL_SECONDS)
        await self._return_interrupted()
        await _until(lambda: not len(self.outcomes), WRITE_SECONDS)
        await self._relay_the_last()

    async def _return_interrupted(self) -> None:
        if not self.worker.interrupted:
            return
        await _until(lambda: not self.threads.may_act(), THREAD_SECONDS)
        if not self.threads.may_act():
            self.worker.return_interrupted()

    async def _relay_the_last(self) -> None:
        """Publish the last events, if the broker accepts them."""
        if relay := self.relay:
            self._allow(RELAY_SECONDS)
            relay.is_idle = False
            relay.wake()
            relay.bell.set()
            await _until(lambda: relay.is_idle or relay.state == "down", RELAY_SECONDS)

    def _allow(self, seconds: float) -> None:
        if self.exit_deadline is not None:
            self.exit_deadline.allow(seconds + SLACK_SECONDS)


def hand_back(url: str, identity: int, worker: Worker) -> int:
    """End everything that *worker* still holds, within seconds, blocking. Return the exit code of the process."""
    left = worker.unfinished()
    if not left:
        return os.EX_OK
    types = sorted({holding.claim.type for holding in worker.held()})
    details = {"tasks": len(left), "types": types}
    log.error("handlers or outcomes left at shutdown; releasing their tasks", extra=details)
    stored = 0
    try:
        conn = connect_blocking(url, name="qw exit")
        with conn:
            stored = claims.end_blocking(conn, left)
            workers.stop(conn, identity)
    except QwError as error:
        log.error("database unreachable at shutdown", extra={"error": str(error)})
    if stored == len(left):
        return os.EX_OK
    log.error("tasks not released; other daemons will rescue them", extra={"tasks": len(left) - stored})
    return os.EX_TEMPFAIL


async def _until(condition: Callable[[], bool], seconds: float, sooner: asyncio.Event | None = None) -> None:
    """Wait until *condition* holds, for at most *seconds*, or until *sooner* is set."""
    deadline = time.monotonic() + seconds
    # what it waits for is spread over many objects, so it looks instead of being told
    while not condition() and time.monotonic() < deadline and not (sooner and sooner.is_set()):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
