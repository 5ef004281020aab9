"""Writes persistent errors of this daemon's services to its worker's row, for `qw status` and others.

Loss of the database connection cannot be written; it shows as a worker without heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qw.services.execution.context import ConnectionSource
from qw.store import workers

CHECK_SECONDS = 1.0
LASTING = 3  # consecutive failures after which an error is reported


class Troubles:
    """The service that writes errors. The loops of all services call ``failed`` and ``recovered``."""

    name = "troubles"

    def __init__(self, pool: ConnectionSource, worker: Callable[[], int]) -> None:
        self._pool = pool
        self._worker = worker
        self._errors: dict[str, str] = {}
        self._written: tuple[int, str | None] | None = None
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return CHECK_SECONDS

    def failed(self, service: str, error: str, failures: int) -> None:
        if failures >= LASTING:
            self._errors[service] = error

    def recovered(self, service: str) -> None:
        self._errors.pop(service, None)

    @property
    def text(self) -> str | None:
        """The current errors: each once, with the services affected."""
        services: dict[str, list[str]] = {}
        for service, error in sorted(self._errors.items()):
            services.setdefault(error, []).append(service)
        return "; ".join(f"{', '.join(names)}: {error}" for error, names in services.items()) or None

    async def step(self) -> bool:
        state = self._worker(), self.text
        if state != self._written and (state[1] or self._written):  # a new row has no trouble
            async with self._pool.connection() as conn:
                await workers.set_trouble(conn, *state)
        self._written = state
        return False
