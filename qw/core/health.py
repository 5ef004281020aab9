"""Problems of the whole system, described in words, the most severe first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from qw.core.duration import format_duration

OLD_SECONDS = 300.0  # a queue is late if the task at its head has waited this long
LONG_TRANSACTION_SECONDS = 3600.0
MOST_ALIKE = 3  # problems of one kind that are reported separately

Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class HealthProblem:
    """``subject``: the queue, type, schedule or worker that has the problem, if there is one."""

    code: str
    severity: Severity
    text: str
    advice: str
    subject: str | None = None


@dataclass(frozen=True, kw_only=True)
class HealthFacts:
    """``oldest``: by queue, how many seconds the task at its head has waited. ``failures``: by type, within a day;
    ``more_failed``: there are more than these.

    ``late``: late schedules, with the delay in seconds. ``broker``: a broker that cannot be reached.
    """

    workers: int
    troubles: Sequence[tuple[int, str]]
    waiting: int
    oldest: Mapping[str, float]
    paused: Sequence[str]
    failures: Sequence[tuple[str, int]]
    late: Sequence[tuple[str, float]]
    broker: str | None
    unpublished: int
    blocked: int
    transaction_seconds: float
    more_failed: bool = False


def problems(facts: HealthFacts) -> list[HealthProblem]:
    """Return all problems that need attention, errors before warnings; empty if there are none.

    Of more than `MOST_ALIKE` problems of one kind, only the first is described, and the others are counted.
    """
    return sorted(_found(facts), key=lambda problem: problem.severity == "warning")


def _found(facts: HealthFacts) -> Iterator[HealthProblem]:
    if not facts.workers:
        waits = f", and {_count(facts.waiting, 'task')} waiting" if facts.waiting else ""
        yield _problem("no_worker", "No worker is running" + waits, "start one: qw daemon", severity="error")
    for worker, trouble in facts.troubles:
        yield _problem(
            "worker_trouble", f"Worker {worker} cannot work: {trouble}", "see: qw doctor", str(worker), severity="error"
        )
    if facts.blocked:
        text = f"{_count(facts.blocked, 'event')} cannot be published"
        yield _problem("events_blocked", text, "see: qw events blocked", severity="error")
    if facts.broker is not None:
        text = f"The broker {facts.broker} cannot be reached; {_count(facts.unpublished, 'event')} waiting"
        yield _problem("broker_down", text, "see: qw events state", severity="error")
    if facts.workers:
        yield from _few(_late_queues(facts), "{} more queues are late")
    yield from _few(_late_schedules(facts), "{} more schedules are late")
    yield from _few(_failures(facts), "so did tasks of {} more types")
    yield from _few(_paused_queues(facts), "{} more queues are paused")
    if facts.transaction_seconds >= LONG_TRANSACTION_SECONDS:
        text = f"A transaction has been open for {_time(facts.transaction_seconds)}, which holds back vacuum"
        yield _problem("long_transaction", text, "find and end it: qw doctor")


def _late_queues(facts: HealthFacts) -> Iterator[HealthProblem]:
    for queue, seconds in sorted(facts.oldest.items(), key=lambda item: -item[1]):
        if seconds >= OLD_SECONDS and queue not in facts.paused:
            text = f"The oldest task of queue {queue} has waited for {_time(seconds)}"
            yield _problem("queue_late", text, "add workers or slots, or see why it waits: qw why ID", queue)


def _late_schedules(facts: HealthFacts) -> Iterator[HealthProblem]:
    for name, seconds in facts.late:
        yield _problem("schedule_late", f"Schedule {name} is {_time(seconds)} late", "see: qw schedule show", name)


def _failures(facts: HealthFacts) -> Iterator[HealthProblem]:
    for type, count in facts.failures:
        text = f"{'At least ' if facts.more_failed else ''}{_count(count, 'task')} of type {type} failed within a day"
        yield _problem("failures", text, f"see: qw task list --status failed --type {type}", type)


def _paused_queues(facts: HealthFacts) -> Iterator[HealthProblem]:
    for queue in facts.paused:
        yield _problem("queue_paused", f"Queue {queue} is paused", f"resume it: qw queue resume {queue}", queue)


def _few(problems: Iterator[HealthProblem], others: str) -> list[HealthProblem]:
    """Return *problems* of one kind; if there are many, the first, whose text counts the *others*."""
    found = list(problems)
    if len(found) <= MOST_ALIKE:
        return found
    return [replace(found[0], text=f"{found[0].text}; {others.format(len(found) - 1)}")]


def _problem(
    code: str, text: str, advice: str, subject: str | None = None, *, severity: Severity = "warning"
) -> HealthProblem:
    return HealthProblem(code=code, severity=severity, text=text, advice=advice, subject=subject)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds)))
