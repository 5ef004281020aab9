"""Admits tasks of limited queues as their limits allow. Every daemon runs one; there is no leader.

A queue is checked when one of its tasks ended here, when a notification reports a new one, and while tasks wait every
quarter of a second, or when its rate admits the next one. The poller triggers a check once a second if there are any
limits. For the meaning of limits see qw.admit in the schema.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable

from qw.core.task import Lane
from qw.store import queues
from qw.store.connection import Connection, ReconnectingConnection

BATCH = 500
STRAYS = 1000  # tasks moved under a new limit per statement
WAIT_SECONDS = 0.25  # between two checks of held tasks
LEAST_SECONDS = 0.01
SHARE = 50  # the search for strays takes at most 2 % of the time
NEVER = 3600.0


class Admitter:
    """``woken`` is called with the lanes that got tasks. ``served``: the queues of this daemon; empty: all."""

    name = "admitter"

    def __init__(
        self, link: ReconnectingConnection, woken: Callable[[Iterable[Lane]], None], served: Collection[str] = ()
    ) -> None:
        self._link = link
        self._woken = woken
        self._served = frozenset(served)
        self._limited: set[str] = set()
        self._asked: set[str] = set()
        self._places: dict[str, str] = {}  # by queue, the key at which its next round begins
        self._strays_at = 0.0
        self._next: float | None = None
        self._look_asked = False
        self.bell = asyncio.Event()

    def polled(self, has_limits: bool) -> None:
        """Take the result of a poll: whether there are limits, or tasks held without limits."""
        if has_limits:
            self._look_asked = True
            self.bell.set()
        else:
            self._limited.clear()

    def ask(self, names: Iterable[str]) -> None:
        """Check these queues in the next step."""
        if self._limited:
            asked = self._limited.intersection(names)
            if not asked <= self._asked:
                self._asked |= asked
                self.bell.set()

    def max_wait(self) -> float:
        return NEVER if self._next is None else max(LEAST_SECONDS, self._next - time.monotonic())

    async def step(self) -> bool:
        is_due = self._next is not None and time.monotonic() >= self._next
        if self._look_asked or is_due:
            self._look_asked, self._next = False, None
            async with self._link.use() as conn:
                self._look_asked = await self._look(conn)
        asked, self._asked = self._asked, set()
        for name in sorted(asked):
            async with self._link.use() as conn:
                await self._admit(conn, name)
        return self._look_asked or bool(self._asked)

    async def _look(self, conn: Connection) -> bool:
        """Read which queues are limited and what they hold. Return True if tasks are still under outdated limits."""
        held = [queue for queue in await queues.held(conn) if not self._served or queue.queue in self._served]
        self._limited = {queue.queue for queue in held if queue.is_limited}
        self._places = {name: place for name, place in self._places.items() if name in self._limited}
        more = False
        for queue in held:
            if not queue.is_limited:
                more |= await queues.release(conn, queue.queue, limit=STRAYS) == STRAYS
        more |= await self._hold_strays(conn)
        self._asked |= {queue.queue for queue in held if queue.is_limited and queue.has_held}
        return more

    async def _hold_strays(self, conn: Connection) -> bool:
        started = time.monotonic()
        if started < self._strays_at:
            return False
        held = {name: await queues.hold(conn, name, limit=STRAYS) for name in sorted(self._limited)}
        self._asked |= {name for name, count in held.items() if count}
        more = STRAYS in held.values()
        self._strays_at = 0.0 if more else started + max(1.0, SHARE * (time.monotonic() - started))
        return more

    async def _admit(self, conn: Connection, name: str) -> None:
        done = await queues.admit(conn, name, limit=BATCH, place=self._places.get(name, ""))
        self._places[name] = done.next_place
        if done.lanes:
            self._woken(done.lanes)
        if done.more:
            self._asked.add(name)
        if done.has_held:
            self._expect(WAIT_SECONDS if done.seconds is None else done.seconds)

    def _expect(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        self._next = at if self._next is None else min(self._next, at)
