"""Resumes suspended tasks when their wait has ended, without scanning the others; see qw.resume_tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from qw.core.task import Lane, Status
from qw.store import checkpoints
from qw.store.claims import EndedAttempt
from qw.store.connection import ReconnectingConnection

BATCH = 500


class Resumer:
    """``woken`` is called with the lanes that got tasks."""

    name = "resumer"

    def __init__(self, link: ReconnectingConnection, woken: Callable[[Iterable[Lane]], None]) -> None:
        self._link = link
        self._woken = woken
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return 3600.0  # the bell is set for outcomes of this process, by the poller for all others

    async def step(self) -> bool:
        async with self._link.use() as conn:
            taken, lanes = await checkpoints.resume(conn, limit=BATCH)
        if lanes:
            self._woken(lanes)
        return taken == BATCH


def may_resume(ended: Sequence[EndedAttempt]) -> bool:
    """Whether one of these endings put an entry into the resumer's inbox."""
    endings = {id(e.ending): e.ending for e in ended}.values()  # most attempts share one
    return any(e.parent_id is not None for e in ended) or any(
        ending.status is Status.CANCELLED or (ending.suspended is not None and not ending.suspended.needs_only_time)
        for ending in endings
    )
