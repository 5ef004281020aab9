"""Writes attempts to the daemon's log: a warning for each failed attempt, an error for each failed task."""

from __future__ import annotations

import logging

from qw.core.task import Status
from qw.core.task.ending import Completed, Failed, Outcome
from qw.core.task.payload import shortened
from qw.services.execution.in_flight import ClaimInFlight
from qw.store.claims import EndedAttempt

log = logging.getLogger(__name__)

ERROR_LENGTH = 500  # characters of an error's first line; the task has the full text


def log_ended(holding: ClaimInFlight, outcome: Outcome, ended: EndedAttempt) -> None:
    """Log the end of an attempt that failed or, at level debug, completed."""
    if isinstance(outcome, Completed):
        if log.isEnabledFor(logging.DEBUG):
            log.debug("task completed", extra=_fields(holding, ended))
        return
    if not isinstance(outcome, Failed):
        return
    error = shortened(outcome.error.partition("\n")[0], ERROR_LENGTH)
    fields = {**_fields(holding, ended), "class": next(iter(outcome.names), ""), "error": error}
    if ended.ending.status is Status.FAILED:
        log.error("task failed", extra=fields)
    else:
        log.warning("attempt failed", extra=fields)


def _fields(holding: ClaimInFlight, ended: EndedAttempt) -> dict[str, object]:
    claim = holding.claim
    return {
        "task": str(claim.id),
        "type": claim.type,
        "queue": claim.queue,
        "attempt": ended.attempt,
        "seconds": None if ended.seconds is None else round(ended.seconds, 3),
    }
