from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from qw.core.times import parse_moment

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 10, 23, 14, 30, tzinfo=BERLIN)  # a Friday, two days before the clocks go back


def meant(text: str, *, ahead: bool) -> str | None:
    found = parse_moment(text, NOW, lambda naive: naive.replace(tzinfo=BERLIN), ahead=ahead)
    return None if found is None else found.isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18:00", "2026-10-23T18:00+02:00"),
        ("6pm", "2026-10-23T18:00+02:00"),
        ("18.00", "2026-10-23T18:00+02:00"),
        ("9:15", "2026-10-24T09:15+02:00"),
        ("14:30", "2026-10-24T14:30+02:00"),
        ("noon", "2026-10-24T12:00+02:00"),
        ("midnight", "2026-10-24T00:00+02:00"),
        ("tomorrow", "2026-10-24T00:00+02:00"),
        ("tomorrow 9am", "2026-10-24T09:00+02:00"),
        ("9 am tomorrow", "2026-10-24T09:00+02:00"),
        ("Noon tomorrow", "2026-10-24T12:00+02:00"),
        ("12am tomorrow", "2026-10-24T00:00+02:00"),
        ("sunday at 8:30", "2026-10-25T08:30+01:00"),
        ("fri 10:00", "2026-10-30T10:00+01:00"),
        ("today 9:00", "2026-10-23T09:00+02:00"),
        ("2026-12-24 18:00", "2026-12-24T18:00+01:00"),
        ("2026-12-24T18:00Z", "2026-12-24T18:00+00:00"),
        ("2h", "2026-10-23T16:30+02:00"),
        ("in 10 minutes", "2026-10-23T14:40+02:00"),
        ("now + 2 hours", "2026-10-23T16:30+02:00"),
        ("now", "2026-10-23T14:30+02:00"),
    ],
)
def test_a_time_ahead_is_read_as_people_write_it(text: str, expected: str) -> None:
    assert meant(text, ahead=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2026-10-23T12:30+02:00"),
        ("2 hours ago", "2026-10-23T12:30+02:00"),
        ("1h30m", "2026-10-23T13:00+02:00"),
        ("yesterday", "2026-10-22T00:00+02:00"),
        ("yesterday 18:00", "2026-10-22T18:00+02:00"),
        ("today", "2026-10-23T00:00+02:00"),
        ("friday", "2026-10-23T00:00+02:00"),
        ("monday", "2026-10-19T00:00+02:00"),
        ("18:00", "2026-10-22T18:00+02:00"),
        ("9am", "2026-10-23T09:00+02:00"),
        ("2026-10-01", "2026-10-01T00:00+02:00"),
    ],
)
def test_a_time_before_is_read_as_people_write_it(text: str, expected: str) -> None:
    assert meant(text, ahead=False) == expected


@pytest.mark.parametrize("text", ["yesterday", "yesterday 18:00", "2 hours ago"])
def test_words_for_the_past_are_no_time_ahead(text: str) -> None:
    assert meant(text, ahead=True) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "1.5",
        "25:00",
        "25.00",
        "13pm",
        "soon",
        "tomorrow monday",
        "9am 10am",
        "18",
        "2026-13-01",
        "-2h",
        "x" * 100,
        "at",
    ],
)
def test_what_could_mean_anything_means_nothing(text: str) -> None:
    assert meant(text, ahead=True) is None
