"""Keeps the database small: folds the tally, deletes what is past its retention, in bounded batches."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

from qw.core.schedule import FIRES_KEPT
from qw.store import events, fires, queues, runs, tasks, workers
from qw.store.connection import ReconnectingConnection

FOLD_SECONDS = 10.0
BUSY_FOLD_SECONDS = 2.0  # while a thousand rows gather between two folds
PRUNE_SECONDS = 300.0
BATCH = 1000
UNWANTED = timedelta(days=7)  # events that no relay has come for are given up


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long what is kept. ``unhappy``: failed and cancelled tasks."""

    completed: timedelta
    unhappy: timedelta
    keys: timedelta
    events: timedelta


class Pruner:
    """See the module."""

    name = "pruner"

    def __init__(self, link: ReconnectingConnection, retention: Retention) -> None:
        self._link = link
        self._retention = retention
        self._pruned_at = time.monotonic()
        self._pause = FOLD_SECONDS
        self.bell = asyncio.Event()

    def patience(self) -> float:
        return self._pause

    async def step(self) -> bool:
        async with self._link.use() as conn:
            folded = await tasks.fold_tally(conn)
        self._pause = BUSY_FOLD_SECONDS if folded > BATCH else FOLD_SECONDS
        if time.monotonic() - self._pruned_at >= PRUNE_SECONDS:
            if await self.prune():
                return True
            self._pruned_at = time.monotonic()
        return False

    async def prune(self) -> bool:
        """One batch of what is past its retention. True: there may be more."""
        kept = self._retention
        async with self._link.use() as conn:
            gone = await tasks.prune(conn, completed=kept.completed, unhappy=kept.unhappy, limit=BATCH)
            over = await runs.prune(conn, completed=kept.completed, unhappy=kept.unhappy, limit=BATCH // 10)
            keys = await tasks.prune_keys(conn, age=kept.keys, limit=BATCH)
            ticks = await fires.prune(conn, age=FIRES_KEPT, limit=BATCH)
            logged = await events.prune(conn, age=kept.events, limit=BATCH)
            untold = await events.forget_unwanted(conn, age=UNWANTED, limit=BATCH)
            await workers.prune(conn, age=kept.unhappy)
            await queues.prune_rates(conn)
        return max(gone, keys, ticks, logged, untold, over * 10) >= BATCH
