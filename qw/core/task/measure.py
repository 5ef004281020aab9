"""The measurements of attempts by daemons: names, labels and buckets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from qw.core.task.ending import Ending
from qw.core.task.task import Status

BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)

WAIT = "task_wait_seconds"  # by queue and type
RUN = "task_run_seconds"  # by queue and type
ATTEMPTS = "task_attempts"  # by queue, type and result
RESCUED = "tasks_rescued"  # by type

LOST = "lease_lost"

ALL_QUEUES = ""  # stands for all queues in the history


class Measure(NamedTuple):
    """A counter has one number in ``counts``; a histogram has one per bucket, the last bucket without an upper bound.

    ``total`` is the sum of the observed values of a histogram.
    """

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    def plus(self, other: Measure) -> Measure:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return self._replace(counts=counts, total=self.total + other.total)


def by_queue(measures: Iterable[Measure]) -> list[Measure]:
    """Return the measures of attempts summed by queue and result (empty for histograms), and over all queues."""
    sums: dict[tuple[str, tuple[str, str]], Measure] = {}
    for measure in measures:
        if measure.name not in (WAIT, RUN, ATTEMPTS):
            continue
        queue, _, *result = measure.labels
        for labels in ((queue, "".join(result)), (ALL_QUEUES, "".join(result))):
            new = measure._replace(labels=labels)
            known = sums.get((measure.name, labels))
            sums[measure.name, labels] = known.plus(new) if known else new
    return list(sums.values())


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Estimate the quantile *share* of a histogram in seconds; None if it is empty.

    Values above the last bound count as the last bound.
    """
    rank = share * sum(counts)
    if rank == 0:
        return None
    below = 0
    for lower, upper, count in zip((0.0, *BOUNDS), (*BOUNDS, BOUNDS[-1]), counts, strict=True):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
    return BOUNDS[-1]


def bucketed(seconds: Iterable[float]) -> tuple[int, ...]:
    """Return how many of *seconds* fall into each bucket; a value equal to a bound belongs to the bucket below it."""
    ordered = sorted(seconds)
    ends = [bisect_right(ordered, bound) for bound in BOUNDS]
    return tuple(b - a for a, b in pairwise((0, *ends, len(ordered))))


def result_of(ending: Ending) -> str:
    """Return the result label of an attempt: a final status, retried, suspended, snoozed or returned."""
    if ending.status is Status.COMPLETED:
        return "completed"
    if ending.status.is_final:
        return ending.status.value
    if ending.outcome is not None:
        return "retried"
    if ending.suspended is not None:
        return "suspended"
    return "returned" if ending.delay is None else "snoozed"
