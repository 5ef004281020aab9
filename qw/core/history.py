"""The data of the charts: time series made from sums per minute or hour and from samples of the queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from qw.core.task.measure import ATTEMPTS, RUN, WAIT, Measure, quantile

MINUTES_KEPT = timedelta(days=2)
HOURS_KEPT = timedelta(days=90)
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class ChartRange(StrEnum):
    """The time span of a chart, which ends now."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"

    @property
    def duration(self) -> timedelta:
        return _RANGES[self][0]

    @property
    def span(self) -> str:
        """The interval of the sums that the chart is made from: ``minute`` or ``hour``."""
        return _RANGES[self][1]

    @property
    def step(self) -> timedelta:
        """The time between two points."""
        return _RANGES[self][2]


_RANGES = {
    ChartRange.HOUR: (timedelta(hours=1), "minute", timedelta(minutes=1)),
    ChartRange.DAY: (timedelta(days=1), "minute", timedelta(minutes=5)),
    ChartRange.WEEK: (timedelta(days=7), "hour", timedelta(hours=1)),
    ChartRange.MONTH: (timedelta(days=30), "hour", timedelta(hours=1)),
}


class Sample(NamedTuple):
    """The state of a queue at a time, in seconds since 1970. ``enqueued``: all tasks ever enqueued."""

    at: int
    waiting: int
    running: int
    oldest: float | None
    enqueued: int


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Columns of equal length. ``times`` are the starts of the steps in seconds since 1970; the last step is not over.

    None: no sample was taken, or nothing was measured, in the step. ``wait`` and ``run``: seconds by quantile.
    """

    step: timedelta
    times: Sequence[int]
    outcomes: Mapping[str, Sequence[int]]
    enqueued: Sequence[int | None]
    waiting: Sequence[int | None]
    running: Sequence[int | None]
    oldest: Sequence[float | None]
    wait: Mapping[str, Sequence[float | None]]
    run: Mapping[str, Sequence[float | None]]


def times_of(shown: ChartRange, now: datetime) -> list[int]:
    """Return the start times of the steps up to now."""
    step = int(shown.step.total_seconds())
    last = int(now.timestamp()) // step * step
    count = int(shown.duration.total_seconds()) // step
    return [last - step * (count - 1 - n) for n in range(count)]


def chart(
    shown: ChartRange, times: Sequence[int], measured: Iterable[tuple[int, Measure]], samples: Sequence[Sample]
) -> Chart:
    """Return the chart. *measured*: measures with the start of their step. *samples*: oldest first, and if possible
    one more after the last step, to count the tasks enqueued in it.
    """
    sums: dict[tuple[str, str], dict[int, Measure]] = {}
    for at, values in measured:
        column = sums.setdefault((values.name, values.labels[-1]), {})
        column[at] = column[at].plus(values) if at in column else values
    step = int(shown.step.total_seconds())
    at_steps = {sample.at // step * step: sample for sample in reversed(samples)}
    columns = [at_steps.get(at) for at in times]
    return Chart(
        step=shown.step,
        times=times,
        outcomes={
            result: [column[at].counts[0] if at in column else 0 for at in times]
            for (name, result), column in sorted(sums.items())
            if name == ATTEMPTS
        },
        enqueued=_enqueued(times, step, samples),
        waiting=[sample and sample.waiting for sample in columns],
        running=[sample and sample.running for sample in columns],
        oldest=[sample and sample.oldest for sample in columns],
        wait=_quantiles(times, sums.get((WAIT, ""), {})),
        run=_quantiles(times, sums.get((RUN, ""), {})),
    )


def _quantiles(times: Sequence[int], histograms: Mapping[int, Measure]) -> dict[str, list[float | None]]:
    return {
        name: [quantile(histograms[at].counts, share) if at in histograms else None for at in times]
        for name, share in SHARES.items()
    }


def _enqueued(times: Sequence[int], step: int, samples: Sequence[Sample]) -> list[int | None]:
    """Count the tasks enqueued between two samples in the step of the first sample."""
    by_slot: dict[int, int] = {}
    for sample, following in pairwise(samples):
        at = sample.at // step * step
        by_slot[at] = by_slot.get(at, 0) + max(following.enqueued - sample.enqueued, 0)
    return [by_slot.get(at) for at in times]


def as_time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
