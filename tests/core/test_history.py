from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from qw.core.history import ChartRange, Sample, chart, times_of
from qw.core.task.measure import ATTEMPTS, BOUNDS, WAIT, Measure, bucketed, by_queue, quantile

NOW = datetime(2026, 11, 28, 10, 7, 30, tzinfo=UTC)
START = int(NOW.timestamp()) - 30


@pytest.mark.parametrize("shown", ChartRange)
def test_the_steps_of_a_range_are_even_and_end_with_the_present_one(shown: ChartRange) -> None:
    times = times_of(shown, NOW)

    step = int(shown.step.total_seconds())
    assert {b - a for a, b in pairwise(times)} == {step}
    assert times[-1] <= NOW.timestamp() < times[-1] + step
    assert len(times) * shown.step == shown.duration


def test_what_is_measured_of_several_types_is_one_of_their_queue_and_of_all() -> None:
    found = by_queue([
        Measure(ATTEMPTS, ("mail", "a", "completed"), (2,)),
        Measure(ATTEMPTS, ("mail", "b", "completed"), (3,)),
        Measure(ATTEMPTS, ("pdf", "b", "failed"), (1,)),
        Measure("tasks_rescued", ("a",), (9,)),
    ])  # fmt: skip

    assert {each.labels: each.counts[0] for each in found} == {
        ("mail", "completed"): 5, ("pdf", "failed"): 1, ("", "completed"): 5, ("", "failed"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_a_quantile_is_in_the_bucket_of_the_value_that_it_stands_for(share: float) -> None:
    values = sorted(0.0007 * 1.07**n for n in range(230))

    found = quantile(bucketed(values), share)

    true = values[min(int(share * len(values)), len(values) - 1)]
    bounds = [0.0, *BOUNDS]
    upper = next((bound for bound in bounds if bound >= true), BOUNDS[-1])
    lower = max(bound for bound in bounds if bound < upper)
    assert found is not None
    assert lower <= found <= upper


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile(bucketed([]), 0.5) is None
    assert quantile((), 0.5) is None


def test_a_chart_has_a_value_in_every_column_for_every_step() -> None:
    times = times_of(ChartRange.HOUR, NOW)
    measured = [
        (START, Measure(ATTEMPTS, ("", "completed"), (4,))),
        (START, Measure(ATTEMPTS, ("", "completed"), (1,))),
        (START - 60, Measure(WAIT, ("", ""), bucketed([0.02]), 0.02)),
    ]
    samples = [Sample(START - 60, 5, 1, 2.5, 100), Sample(START, 6, 0, None, 103), Sample(START + 60, 0, 0, None, 104)]

    found = chart(ChartRange.HOUR, times, measured, samples)

    assert found.outcomes == {"completed": [0] * 59 + [5]}
    assert found.enqueued == [None] * 58 + [3, 1]
    assert found.waiting[-2:] == [5, 6]
    assert found.oldest[-2:] == [2.5, None]
    wait = found.wait["p50"][-2]
    assert wait is not None
    assert 0.01 <= wait <= 0.025
    assert found.wait["p50"][-1] is None
