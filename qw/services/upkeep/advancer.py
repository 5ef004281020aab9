"""Advances runs as soon as their inbox has messages; see `qw.engine.advance`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from qw.core.errors import QwError
from qw.core.task import Lane
from qw.engine.advance import advance
from qw.store.connection import ReconnectingConnection, blames_data

BATCH = 50


class Advancer:
    """``woken`` is called with the lanes that got tasks."""

    name = "advancer"

    def __init__(self, link: ReconnectingConnection, woken: Callable[[Iterable[Lane]], None]) -> None:
        self._link = link
        self._woken = woken
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return 3600.0  # the bell is set for outcomes of this process, by the poller for all others

    async def step(self) -> bool:
        try:
            async with self._link.use() as conn:
                advanced, lanes = await advance(conn, limit=BATCH)
        except QwError as error:
            if not blames_data(error):
                raise
            # The database rejected the batch: advance one run at a time, so that only the faulty one fails.
            async with self._link.use() as conn:
                advanced, lanes = await advance(conn, limit=1, fail_refused=True)
        if lanes:
            self._woken(lanes)
        return advanced > 0
