"""Runs the services: their loops, waits and errors. A service that fails is retried; the daemon continues."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from qw.core.backoff import backoff_seconds
from qw.core.errors import QwError, Unavailable, Unreachable
from qw.services.service import Service
from qw.services.upkeep.troubles import Troubles

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between tries of a service that fails
REMIND_SECONDS = 60.0  # between two lines about the same error


async def keep_running(service: Service, troubles: Troubles | None = None, *, waits_first: bool = False) -> None:
    """Step *service* until cancelled: at once while there is more to do, else when its bell rings or `max_wait` has
    passed.

    With *waits_first* also before the first step.
    """
    failures = 0
    trouble = TroubleLog(service.name)
    task = asyncio.current_task()
    assert task is not None
    if waits_first:
        await _bell_or(service.bell, service.max_wait())
    while not task.cancelling():  # some libraries raise an error of their own where they should let a cancel through
        service.bell.clear()
        try:
            more = await service.step()
        except QwError as error:
            failures += 1
            trouble.report(error)
            if troubles and not isinstance(error, Unreachable):
                troubles.failed(service.name, str(error), failures)
        except Exception:
            failures += 1
            log.exception("service failed", extra={"service": service.name})
        else:
            if failures:
                log.info("service recovered", extra={"service": service.name, "failures": failures})
                trouble.is_over()
                if troubles:
                    troubles.recovered(service.name)
            failures = 0
            if more:
                await asyncio.sleep(0)
            else:
                await _bell_or(service.bell, service.max_wait())
            continue
        await asyncio.sleep(retry_seconds(failures))


class TroubleLog:
    """Logs the failures of a service: at once when the failure is new, then once a minute while it lasts."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._logged_at: dict[str, float] = {}

    def report(self, error: QwError) -> None:
        """Log *error*. It has a line of its own words, whatever it is: only loss of contact is called that."""
        text, now = str(error), time.monotonic()
        is_new = now - self._logged_at.get(text, -REMIND_SECONDS) >= REMIND_SECONDS
        if is_new:
            self._logged_at[text] = now
        passes = isinstance(error, Unavailable)
        level = (logging.WARNING if passes else logging.ERROR) if is_new else logging.DEBUG
        message = "waiting for the database" if passes else "service failed"
        log.log(level, message, extra={"service": self._service, "error": text})

    def is_over(self) -> None:
        self._logged_at.clear()


def retry_seconds(failures: int) -> float:
    """The wait before the next step of a service that has failed this often in a row."""
    return backoff_seconds(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, chance=random.random())


async def _bell_or(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
