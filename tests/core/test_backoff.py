from __future__ import annotations

import pytest

from qw.core.backoff import backoff_seconds


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [(1, 1.0, 0.25), (2, 1.0, 0.5), (4, 1.0, 2.0), (7, 1.0, 10.0), (10**9, 1.0, 10.0), (1, 0.0, 0.125), (7, 0.5, 7.5)],
)
def test_pauses_double_up_to_the_longest_and_chance_shortens_them_by_up_to_half(
    failures: int, chance: float, seconds: float
) -> None:
    assert backoff_seconds(failures, first=0.25, longest=10.0, chance=chance) == seconds
