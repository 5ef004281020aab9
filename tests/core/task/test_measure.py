from __future__ import annotations

from datetime import timedelta

import pytest

from qw.core.task import Policy
from qw.core.task.ending import Cancelled, Completed, Failed, HandedBack, Outcome, Snoozed, end
from qw.core.task.measure import BOUNDS, Measure, bucketed, result_of


@pytest.mark.parametrize(
    ("outcome", "retries", "result"),
    [
        (Completed(), 0, "completed"), (Cancelled(), 0, "cancelled"), (Failed(error="x"), 0, "retried"),
        (Failed(error="x"), 2, "failed"), (Failed(error="x", final=True), 0, "failed"),
        (Failed(error="x", outcome="timed_out"), 1, "retried"), (HandedBack(), 0, "returned"),
        (Snoozed(delay=timedelta(seconds=1)), 0, "snoozed"),
    ],
)  # fmt: skip
def test_an_attempt_has_the_result_that_its_end_says(outcome: Outcome, retries: int, result: str) -> None:
    ending = end(outcome, retries=retries, crashes=0, policy=Policy(max_retries=3), chance=0.5)

    assert result_of(ending) == result


def test_each_value_is_counted_in_the_first_bucket_that_it_fits() -> None:
    counts = bucketed([*BOUNDS, 0.0, 9999.0, 9999.0])

    assert counts == (2, *[1] * (len(BOUNDS) - 1), 2)
    assert sum(bucketed([])) == 0


def test_measures_of_one_name_add_up() -> None:
    first, second = Measure("a", ("x",), (1, 2), 0.5), Measure("a", ("x",), (3, 0), 1.0)

    assert first.plus(second) == Measure("a", ("x",), (4, 2), 1.5)
