"""Polls the database for all services with one statement per second, and wakes the services that have work.

The statement is also the worker's heartbeat, so that an idle daemon needs less than one transaction per second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from qw.core.errors import Unavailable
from qw.services.events.relay import Relay
from qw.services.execution.worker import Worker
from qw.services.liveness import lease
from qw.services.liveness.heartbeat import Heartbeat
from qw.services.liveness.memory import resident_bytes
from qw.services.liveness.rescuer import Rescuer
from qw.services.service import Service
from qw.services.upkeep.admitter import Admitter
from qw.services.upkeep.promoter import Promoter
from qw.services.upkeep.scheduler import Scheduler
from qw.store import tasks, workers
from qw.store.connection import ReconnectingConnection

IDLE = 1.3  # factor for the interval of an idle daemon; a crash is still recovered within 2 s
SHARE = 50  # minimum interval, as a multiple of the duration of a poll
LONGEST_SECONDS = 2.0  # upper bound of that minimum: dead workers are detected by polling
COSTS = 3  # latest polls, of which the fastest counts: load or locks may have slowed the others


def pause(interval: float, costs: Iterable[float]) -> float:
    """Return the seconds until the next poll. *costs*: the durations of the latest polls, in seconds."""
    return max(interval, min(SHARE * min(costs), LONGEST_SECONDS))


class Poller:
    """See the module. Calls ``drain`` when this worker is asked to drain, ``died`` when it was declared dead."""

    name = "tick"

    def __init__(
        self,
        link: ReconnectingConnection,
        *,
        identity: Callable[[], int],
        worker: Worker,
        promoter: Promoter,
        scheduler: Scheduler,
        rescuer: Rescuer,
        advancer: Service,
        resumer: Service,
        admitter: Admitter,
        stacks: Service,
        heartbeat: Heartbeat,
        relay: Relay | None,
        drain: Callable[[], None],
        died: Callable[[], None] = lambda: None,
        interval: float = 1.0,
    ) -> None:
        self._link = link
        self._identity = identity
        self._worker = worker
        self._promoter = promoter
        self._scheduler = scheduler
        self._rescuer = rescuer
        self._advancer = advancer
        self._resumer = resumer
        self._admitter = admitter
        self._stacks = stacks
        self._heartbeat = heartbeat
        self._relay = relay
        self._drain = drain
        self._died = died
        self._interval = interval
        self._after = workers.FROM_THE_START
        self._costs: deque[float] = deque([0.0], maxlen=COSTS)
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return pause(self._interval * (IDLE if self._worker.is_idle else 1.0), self._costs)

    async def step(self) -> bool:
        try:
            return await self._step()
        except Unavailable:
            self._rescuer.lost_contact()
            raise

    async def _step(self) -> bool:
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with self._link.use() as conn:
            identity, sent_at = self._identity(), lease.now()
            poll = await workers.poll(
                conn,
                identity,
                cursor=self._promoter.cursor,
                outbox=self._relay.cursor if self._relay else workers.NO_EVENTS,
                memory=resident_bytes(),
                after=self._after,
            )
            self._after = poll.after
            self._costs.append(loop.time() - started)
            if poll.cancels:
                await tasks.settle_cancels(conn)
                self._worker.interrupt(await workers.asked(conn, self._identity()))
        self._worker.woken(poll.lanes)
        self._promoter.expect(poll.due)
        self._scheduler.expect(poll.schedule)
        if poll.advance:
            self._advancer.bell.set()
        if poll.wakeups:
            self._resumer.bell.set()
        self._admitter.polled(poll.limits)
        self._rescuer.watch(poll.beats)
        if poll.doubts:
            self._rescuer.bell.set()
        if poll.asked:
            self._stacks.bell.set()
        if self._relay:
            self._relay.hear(has_events=poll.events, others=poll.beats.keys(), applied=poll.applied)
        if poll.dead and identity == self._identity():
            self._died()
        elif not poll.dead:
            self._heartbeat.was_sent(sent_at, holds=poll.holds)
        if poll.slots and identity == self._identity():
            self._worker.resize(poll.slots)
        if poll.draining:
            self._drain()
        return False
