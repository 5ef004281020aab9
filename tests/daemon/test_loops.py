from __future__ import annotations

import asyncio
import logging

import pytest

from qw.core.errors import Denied, Unavailable, Unreachable
from qw.daemon.loops import keep_running


class Deaf:
    """A service whose library says that a connection broke when it is cancelled."""

    name = "deaf"

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self.began = asyncio.Event()
        self.steps = 0

    def max_wait(self) -> float:
        return 0.0

    async def step(self) -> bool:
        self.steps += 1
        self.began.set()
        try:
            await asyncio.Event().wait()  # until it is cancelled
        except asyncio.CancelledError:
            raise Unavailable("the connection broke") from None
        return True


async def test_a_cancel_that_a_library_swallows_ends_the_loop_all_the_same() -> None:
    service = Deaf()
    loop = asyncio.create_task(keep_running(service))
    await service.began.wait()

    loop.cancel()
    await asyncio.wait([loop], timeout=5)

    assert loop.done()
    assert service.steps == 1


class Failing:
    """A service that fails with each of *errors*, then has nothing to do."""

    name = "failing"

    def __init__(self, *errors: Exception) -> None:
        self.bell = asyncio.Event()
        self.left = list(errors)
        self.recovered = asyncio.Event()

    def max_wait(self) -> float:
        return 60.0

    async def step(self) -> bool:
        if self.left:
            raise self.left.pop(0)
        self.recovered.set()
        return False


async def test_a_service_that_fails_is_logged_once_per_error_in_the_words_of_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away, denied = Unreachable("the database cannot be reached: x"), Denied("permission denied for table ready")
    service = Failing(away, away, denied, away)
    with caplog.at_level(logging.INFO, "qw.daemon.loops"):
        loop = asyncio.create_task(keep_running(service))
        async with asyncio.timeout(60):
            await service.recovered.wait()
            await asyncio.sleep(0)
        loop.cancel()

    told = [(record.levelname, record.message, getattr(record, "error", "")) for record in caplog.records]
    assert told == [
        ("WARNING", "waiting for the database", str(away)),
        ("ERROR", "service failed", str(denied)),
        ("INFO", "service recovered", ""),
    ]
    assert not any(record.exc_info for record in caplog.records)
