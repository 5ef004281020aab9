"""What happens to a task when an attempt ends: the only place that decides about retries.

The worker and the rescuer both call `end`; one statement stores the result if the fence is still valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from qw.core.backoff import backoff_seconds
from qw.core.task.checkpoint import Checkpoint, CheckpointKind, NewWait, waits_for
from qw.core.task.error_kind import CANCELLED, CRASH, INVALID, LOST, kind_of, matches
from qw.core.task.payload import Json
from qw.core.task.task import Backoff, Policy, Status

MAX_CRASHES = 3  # a task that was in this many worker crashes fails
SUSPECT_CRASHES = 2  # from this number on the task is a suspect, see `qw.core.suspects`
MAX_LOSSES = 10  # a task fails after this many silent workers: it may freeze every worker that runs it
PROMPT_LOSSES = 2  # up to this number it runs again at once; then after a pause, so that it runs beside other tasks
LONGEST_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Completed:
    result: Json = None


COMPLETED = Completed()  # the most frequent outcome, without a result: one shared object


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The handler raised. ``names``: the error's class names, most specific first. ``kind`` empty: that of its class.

    ``final``: do not retry. ``after`` is a delay requested by the handler; it replaces the backoff delay, but the
    attempt still counts.
    """

    error: str
    names: tuple[str, ...] = ()
    kind: str = ""
    after: timedelta | None = None
    final: bool = False
    outcome: str = "error"


@dataclass(frozen=True, kw_only=True)
class LeftToOthers:
    """The payload does not fit this version of the handler. The task returns to its old place, for another worker.

    If no worker has another version, the task waits for ``after`` first. Does not count against the retries.
    """

    error: str
    after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Snoozed:
    """The handler asked to run again later. Does not count against the retries."""

    delay: timedelta
    reason: str = "snoozed"


@dataclass(frozen=True, kw_only=True)
class Suspended:
    """The handler waits for open checkpoints and runs again when one has ended, or with ``needs_all`` when all have.

    ``new``: the only wait, which begins now. Resets the counts of retries and crashes, because the handler made
    progress.
    """

    waits: Sequence[Checkpoint] = ()
    needs_all: bool = False
    new: NewWait | None = None

    @property
    def until(self) -> datetime | None:
        """The earliest time at which one of them ends by itself."""
        return min((wait.due_at for wait in self.waits if wait.due_at), default=None)

    @property
    def most_open(self) -> int:
        """How many checkpoints may still be open when the task continues."""
        return 0 if self.needs_all or self.new else len(self.waits) - 1

    @property
    def needs_only_time(self) -> bool:
        return all(wait.kind is CheckpointKind.SLEEP for wait in self.all_waits)

    @property
    def all_waits(self) -> Sequence[Checkpoint | NewWait]:
        return self.waits if self.new is None else [self.new]


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    reason: str = "cancelled"


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """The attempt was not finished, through no fault of the task: a drain, a lost lease, no free slot.

    The task returns to its old place. With ``after`` it waits that long first, until the process that ran it has
    ended.
    """

    after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerDied:
    """The worker process ended. ``alone``: no other suspect was running in it."""

    worker: int
    alone: bool = True


@dataclass(frozen=True, kw_only=True)
class WorkerSilent:
    """The worker sent no heartbeat for a lease: frozen or disconnected, which its tasks rarely cause.

    ``losses``: earlier losses of this task.
    """

    worker: int
    losses: int = 0


Outcome: TypeAlias = (
    Completed | Failed | LeftToOthers | Snoozed | Suspended | Cancelled | HandedBack | WorkerDied | WorkerSilent
)


class Ending(NamedTuple):
    """The next state of the task. Final: move to finished. Else run after ``delay``; None: now, in its old place.

    ``outcome`` is the attempt's outcome in the history; None: no row. ``suspended``: what the task waits for.
    A tuple for speed, like `Claim`.
    """

    status: Status
    retries: int
    crashes: int
    delay: timedelta | None = None
    reason: str | None = None
    result: Json = None
    error: str | None = None
    outcome: str | None = None
    kind: str | None = None  # the error kind, see `qw.core.task.error_kind`
    suspended: Suspended | None = None


_COMPLETED_AT_ONCE = Ending(Status.COMPLETED, 0, 0)  # the most frequent ending: one shared object


def end(outcome: Outcome, *, retries: int, crashes: int, policy: Policy, chance: float) -> Ending:
    """Return the ending of an attempt with this *outcome*, after *retries* and *crashes* in earlier attempts.

    *chance*, between 0 and 1, spreads the delay (full jitter).
    """
    if outcome is COMPLETED and not retries and not crashes:
        return _COMPLETED_AT_ONCE
    waiting = Status.RETRYING if retries else Status.PENDING
    match outcome:
        case Completed(result=result):
            return Ending(Status.COMPLETED, retries, crashes, result=result)
        case Cancelled(reason=reason):
            return Ending(status=Status.CANCELLED, retries=retries, crashes=crashes, error=reason, kind=CANCELLED)
        case Snoozed(delay=delay, reason=reason):
            return Ending(status=waiting, retries=retries, crashes=crashes, delay=delay, reason=reason)
        case Suspended(all_waits=waits):
            return Ending(Status.PENDING, 0, 0, reason=waits_for(waits), suspended=outcome)
        case LeftToOthers(error=error, after=pause):
            why = None if pause is None else "misfit"
            return Ending(
                waiting, retries, crashes, delay=pause, reason=why, error=error, outcome="misfit", kind=INVALID
            )
        case HandedBack(after=pause):
            why = None if pause is None else "handed back"
            return Ending(status=waiting, retries=retries, crashes=crashes, delay=pause, reason=why)
        case WorkerDied():
            return _crash(outcome, retries, crashes, waiting, policy)
        case WorkerSilent():
            return _lose(outcome, retries, crashes, waiting, policy, chance)
        case Failed():
            return _fail(outcome, retries, crashes, policy, chance)


def backoff_delay(backoff: Backoff, failures: int, chance: float) -> timedelta:
    """Return ``delay`` times ``factor`` per failed attempt, at most ``max_delay``, with full jitter."""
    ceiling = backoff.max_delay.total_seconds()
    exponent = min(max(failures - 1, 0), 64)
    seconds = min(ceiling, backoff.delay.total_seconds() * backoff.factor**exponent)
    return timedelta(seconds=seconds * chance)


def _crash(died: WorkerDied, retries: int, crashes: int, waiting: Status, policy: Policy) -> Ending:
    """The last allowed crash fails the task only if no other suspect, which may be the cause, was running."""
    crashes += 1
    count = f"{crashes} of {MAX_CRASHES}" if crashes <= MAX_CRASHES else f"{crashes} times"
    error = f"worker {died.worker} died while it held this task ({count})"
    is_last = crashes > MAX_CRASHES or (crashes == MAX_CRASHES and died.alone)
    is_last = is_last or matches(policy.backoff.give_up_on, CRASH)
    if crashes == MAX_CRASHES and not is_last:
        error += ", in parallel with another suspect: it runs once more, alone"
    status, outcome = (Status.FAILED, None) if is_last else (waiting, "worker_died")
    return Ending(status=status, retries=retries, crashes=crashes, error=error, outcome=outcome, kind=CRASH)


def _lose(lost: WorkerSilent, retries: int, crashes: int, waiting: Status, policy: Policy, chance: float) -> Ending:
    losses = lost.losses + 1
    error = f"worker {lost.worker} was silent for a lease while it held this task ({losses} of {MAX_LOSSES})"
    if losses >= MAX_LOSSES or matches(policy.backoff.give_up_on, LOST):
        return Ending(status=Status.FAILED, retries=retries, crashes=crashes, error=error, kind=LOST)
    beyond = losses - PROMPT_LOSSES
    seconds = backoff_seconds(beyond, first=2.0, longest=LONGEST_PAUSE.total_seconds(), chance=chance)
    delay = timedelta(seconds=seconds) if beyond > 0 else None
    return Ending(
        status=waiting,
        retries=retries,
        crashes=crashes,
        delay=delay,
        reason="worker silent" if delay else None,
        error=error,
        outcome="worker_died",
        kind=LOST,
    )


def _fail(failed: Failed, retries: int, crashes: int, policy: Policy, chance: float) -> Ending:
    retries += 1
    backoff, kind = policy.backoff, failed.kind or kind_of(failed.names)
    if failed.final or retries >= policy.max_retries or not is_retried(kind, failed.names, backoff):
        return Ending(status=Status.FAILED, retries=retries, crashes=crashes, error=failed.error, kind=kind or None)
    delay = backoff_delay(backoff, retries, chance) if failed.after is None else min(failed.after, _LONGEST_AFTER)
    return Ending(
        status=Status.RETRYING,
        retries=retries,
        crashes=crashes,
        delay=max(delay, timedelta(0)),
        reason="retry",
        error=failed.error,
        outcome=failed.outcome,
        kind=kind or None,
    )


_LONGEST_AFTER = timedelta(days=1)  # the longest Retry-After accepted from a remote worker


def is_retried(kind: str | None, names: tuple[str, ...], backoff: Backoff) -> bool:
    """Whether *backoff* allows a retry after an error of this kind or of these classes."""
    if matches(backoff.give_up_on, kind, names):
        return False
    return not backoff.retry_on or matches(backoff.retry_on, kind, names)
