"""Runs services: their loops, waits and errors. A service that fails is tried again; the daemon goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from qw.core.errors import Unavailable
from qw.services.service import Service

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between tries of a service that fails


async def keep_running(service: Service) -> None:
    """Step *service* until cancelled: at once while there is more, else when its bell rings or its patience ends."""
    failures = 0
    task = asyncio.current_task()
    assert task is not None
    while not task.cancelling():  # some libraries raise an error of their own where they should let a cancel through
        service.bell.clear()
        try:
            more = await service.step()
        except Unavailable as error:
            failures += 1
            level = logging.WARNING if failures == 1 else logging.DEBUG
            log.log(level, "waiting for the database", extra={"service": service.name, "error": str(error)})
        except Exception:
            failures += 1
            log.exception("service failed", extra={"service": service.name})
        else:
            if failures:
                log.info("service goes on", extra={"service": service.name, "failures": failures})
            failures = 0
            if more:
                await asyncio.sleep(0)
            else:
                await _bell_or(service.bell, service.patience())
            continue
        await asyncio.sleep(backoff_seconds(failures))


def backoff_seconds(failures: int) -> float:
    """Doubling from FIRST_PAUSE to LONGEST_PAUSE, with jitter."""
    pause: float = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE)
    return pause * (0.5 + random.random() / 2)


async def _bell_or(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
