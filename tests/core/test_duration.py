from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.duration import MAX_DURATION, format_duration, parse_duration
from qw.core.errors import Invalid


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86_400),
        ("1w", 604_800),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        (" 30s ", 30),
        ("30", 30),
        ("0.5", 0.5),
        (30, 30),
        (0.25, 0.25),
        (0, 0),
        ("0s", 0),
        ("PT5M", 300),
        ("P1DT2H", 93_600),
        ("pt1.5s", 1.5),
        ("P2W", 1_209_600),
        (timedelta(minutes=1), 60),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: object, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "s", "5x", "-5s", "5 parsecs", "1:30", "P", "PT", "P1DT", "1e9s", "10s!", "1" * 70),
        *(None, True, [], {}, -1, float("nan"), float("inf"), timedelta(seconds=-1)),
    ],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(Invalid, match="is not a duration such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "99999999999999999999999w", 10**12, "P999999999W", 1e300])
def test_a_duration_beyond_a_century_is_refused_and_never_overflows(text: object) -> None:
    with pytest.raises(Invalid):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (2.5, "2.5s"), (90, "1m30s"), (5400, "1h30m"), (86_400, "1d"), (90_061, "1d1h1m1s")],
)
def test_a_duration_is_written_in_its_shortest_form(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.integers(0, int(MAX_DURATION.total_seconds()) * 1000))
def test_what_is_written_reads_back_to_the_same(millis: int) -> None:
    duration = timedelta(milliseconds=millis)

    assert parse_duration(format_duration(duration)) == duration


@given(st.text() | st.floats() | st.integers())
def test_anything_is_a_duration_or_invalid(value: object) -> None:
    try:
        duration = parse_duration(value)
    except Invalid:
        return

    assert timedelta(0) <= duration <= MAX_DURATION
