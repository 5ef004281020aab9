"""Consumes commands from a broker's queue: each becomes a task and is acknowledged once that is committed.

Messages are deduplicated by their id (an idempotency key). An unreadable message goes to the dead-letter queue with the
reason; while the database is unreachable messages stay in the broker and are redelivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

from qw.brokers import Delivery, Inbox
from qw.brokers.trouble import reason_of
from qw.core.backoff import backoff_seconds
from qw.core.errors import Invalid, QwError, guess
from qw.core.task import inbound
from qw.core.task.payload import shortened
from qw.services.execution.context import ConnectionSource
from qw.store import events, tasks, types
from qw.store.connection import Connection, blames_data
from qw.store.ids import new_id

log = logging.getLogger(__name__)

BATCH = 100
WAIT_SECONDS = 5.0  # maximum wait for the first message
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0


class Consumer:
    """See the module. ``taken`` and ``refused`` count messages."""

    name = "consumer"

    def __init__(self, pool: ConnectionSource, inbox: Inbox, worker: Callable[[], int]) -> None:
        self._pool = pool
        self._inbox = inbox
        self._worker = worker
        self._reported: tuple[int, str | None] | None = None
        self._failures = 0
        self._not_before = 0.0
        self.taken = 0
        self.refused = 0
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return max(0.0, self._not_before - time.monotonic())

    async def step(self) -> bool:
        """Waits for messages, at most WAIT_SECONDS."""
        try:
            await self._inbox.open()
            await self._report(None)
            deliveries = await self._inbox.receive(BATCH, WAIT_SECONDS)
            for delivery in deliveries:
                await self._handle(delivery)
        except QwError as error:  # an error of the broker or the database, not of a message
            await self._back_off(error)
            return False
        self._failures = 0
        return True

    def start_over(self) -> None:
        """After a reconnect, possibly to another database: write the state again."""
        self._reported = None

    async def stop(self) -> None:
        await self._inbox.close()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            await self._enqueue(delivery)
        except QwError as error:
            if not blames_data(error):
                raise
            log.warning("command rejected", extra={"broker": self._inbox.name, "error": shortened(str(error), 500)})
            await self._inbox.refuse(delivery, str(error))
            self.refused += 1
        else:
            await self._inbox.take(delivery)
            self.taken += 1

    async def _enqueue(self, delivery: Delivery) -> None:
        asked = inbound.read(delivery.body, delivery.id)
        if asked is None:
            return
        task = inbound.task_of(asked, new_id())
        async with self._pool.connection() as conn:
            await _check_type(conn, task.type)
            await tasks.enqueue_keyed(conn, task, "skip")

    async def _back_off(self, error: QwError) -> None:
        """Disconnect; received messages that were not acknowledged are redelivered on the next connection."""
        self._failures += 1
        pause = backoff_seconds(self._failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, chance=random.random())
        self._not_before = time.monotonic() + pause
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        log.log(level, "command consumer interrupted", extra={"broker": self._inbox.name, "error": str(error)})
        await self._inbox.close()
        with contextlib.suppress(QwError):  # if the database is unreachable, a later write succeeds
            await self._report(error)

    async def _report(self, trouble: QwError | None) -> None:
        """Write a changed state to the database, for `qw events state`."""
        error = str(trouble) if trouble else None
        state = (self._worker(), error)
        if state != self._reported:
            async with self._pool.connection() as conn:
                await events.set_consumer(
                    conn, state[0], broker=self._inbox.name, queue=self._inbox.queue,
                    state="down" if error else "up", error=error,
                    reason=reason_of(trouble) if trouble else None,
                )  # fmt: skip
            self._reported = state


async def _check_type(conn: Connection, type: str) -> None:
    known = await types.names(conn)
    if type not in known:
        raise Invalid(f"unknown task type {type!r}{guess(type, known)}")
