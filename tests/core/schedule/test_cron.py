from __future__ import annotations

import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim, CronSimError
from hypothesis import given
from hypothesis import strategies as st

from qw.core.errors import Invalid
from qw.core.schedule.cron import MACROS, parse_cron
from qw.core.schedule.describe import describe_cron
from qw.core.schedule.timing import ByCron, ticks

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def wall(text: str) -> datetime:
    return datetime.fromisoformat(text)


def after(expression: str, start: str, *, seconds: bool = False) -> str:
    found = parse_cron(expression, seconds=seconds).after(wall(start))
    return found.isoformat(sep=" ") if found else "never"


def refusal(expression: str, *, seconds: bool = False) -> str:
    with pytest.raises(Invalid) as raised:
        parse_cron(expression, seconds=seconds)
    return str(raised.value)


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("*/15 * * * *", "2026-11-24 10:07:30", "2026-11-24 10:15:00"),
        ("0 9 * * mon-fri", "2026-11-27 09:00", "2026-11-30 09:00:00"),
        ("5/20 * * * *", "2026-11-24 10:26", "2026-11-24 10:45:00"),
        ("0 0 L * *", "2028-02-01", "2028-02-29 00:00:00"),
        ("0 0 L,15 * *", "2026-11-16", "2026-11-30 00:00:00"),
        ("0 9 * * mon#2", "2026-11-24", "2026-12-14 09:00:00"),
        ("0 9 * * 5L", "2026-11-24", "2026-11-27 09:00:00"),
        ("0 0 * * 7", "2026-11-24", "2026-11-29 00:00:00"),
        ("0 0 29 feb *", "2026-11-24", "2028-02-29 00:00:00"),
        ("@weekly", "2026-11-24", "2026-11-29 00:00:00"),
        ("@YEARLY", "2026-11-24", "2027-01-01 00:00:00"),
        ("59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59:00"),
    ],
)
def test_the_next_match_is_the_first_one_after(expression: str, start: str, expected: str) -> None:
    assert after(expression, start) == expected


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [("5-5 * * * *", [5, 65]), ("59/15 * * * *", [59, 119]), ("50/5 * * * *", [50, 55]), ("0-59/45 * * * *", [45, 60])],
)
def test_a_range_of_one_number_is_that_number(expression: str, minutes: list[int]) -> None:
    hour = wall("2026-11-24 10:00")

    found = list(islice(walk(expression, "2026-11-24 10:00:01"), 2))

    assert [(tick - hour).total_seconds() / 60 for tick in found] == minutes


@pytest.mark.parametrize(
    ("field", "days"),
    [("7", [7]), ("sun-sun", [7]), ("7-7", [7]), ("fri-7", [5, 6, 7]), ("0-7/3", [3, 6, 7]), ("6/2", [6])],
)
def test_seven_is_sunday_in_ranges_too(field: str, days: list[int]) -> None:
    found = islice(walk(f"0 0 * * {field}", "2026-11-23"), len(days) * 2)

    assert [day.isoweekday() for day in found] == days * 2


def test_a_second_comes_first_where_it_was_asked_for() -> None:
    assert after("*/10 * * * * *", "2026-11-24 10:00:05", seconds=True) == "2026-11-24 10:00:10"
    assert after("30 5 * * * *", "2026-11-24 10:05:30", seconds=True) == "2026-11-24 11:05:30"


def test_both_day_fields_restricted_mean_either_as_in_debian() -> None:
    assert [d.day for d in islice(walk("0 0 13 * 5", "2026-11-01"), 5)] == [6, 13, 20, 27, 4]


def test_a_day_field_that_begins_with_a_star_means_both_as_in_debian() -> None:
    assert [d.day for d in islice(walk("0 0 */10 * 0", "2026-11-01"), 3)] == [1, 31, 21]


def walk(expression: str, start: str):  # type: ignore[no-untyped-def]
    cron, found = parse_cron(expression), wall(start) - timedelta(seconds=1)
    while (found := cron.after(found)) is not None:  # type: ignore[assignment]
        yield found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * *", "cron: 4 fields; it needs minute, hour, day of month, month and day of week"),
        ("60 * * * *", "cron: minute: 60 is not between 0 and 59"),
        ("0 24 * * *", "cron: hour: 24 is not between 0 and 23"),
        ("0 0 0 * *", "cron: day of month: 0 is not between 1 and 31"),
        ("0 0 1 13 *", "cron: month: 13 is not between 1 and 12"),
        ("0 0 * * 8", "cron: day of week: 8 is not between 0 and 7"),
        ("0 0 30 2 *", "cron: '0 0 30 2 *' never fires: no such day occurs within 50 years"),
        ("0 0 31 4 */2", "cron: '0 0 31 4 */2' never fires: no such day occurs within 50 years"),
        ("*/0 * * * *", "cron: minute: '*/0': a step of 0 is not between 1 and 59"),
        (
            "0 3 * * 1-5 /usr/bin/backup all",
            (
                "cron: '/usr/bin/backup' is not a time field; "
                "put a command after --: --cron '0 3 * * 1-5' -- /usr/bin/backup all"
            ),
        ),
        (
            "0 0 3 * * monday",
            "cron: six fields begin with a second; allow them with seconds: true (--seconds)",
        ),
        (
            "0 0 0 1 1 *",
            "cron: six fields begin with a second; allow them with seconds: true (--seconds)",
        ),
        ("", "cron: is empty; it needs minute, hour, day of month, month and day of week"),
        ("5-2 * * * *", "cron: minute: '5-2' goes backwards; write two ranges separated by a comma"),
        ("* * * jann *", "cron: month: 'jann' is not a number or a name; did you mean 'jan'?"),
        ("0 0 * * 1#6", "cron: day of week: '1#6' is not a number, a range such as 0-7, * or a step such as */2"),
        (
            "0 0 * * mon#2,5",
            "cron: day of week: 'mon#2' cannot be combined with other days, of week or month; create two schedules",
        ),
        (
            "0 0 13 * 5L",
            "cron: day of week: '5L' cannot be combined with other days, of week or month; create two schedules",
        ),
        ("x" * 10_000, "cron: 10,000 characters; an expression has at most 256"),
    ],
)
def test_a_bad_expression_is_refused_with_its_field(expression: str, expected: str) -> None:
    assert refusal(expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        *("@reboot", "@every", "@", "1-1000000000 * * * *", "٣ * * * *", "1,, * * * *", "-1 * * * *"),
        *("h * * * *", "R * * * *", "0 0 ? * 1", "0 0 15w * *", "0 0 * * l5", "* * * * * * *", "0 22-4 * * *"),
    ],
)
def test_what_only_looks_like_an_expression_is_refused(expression: str) -> None:
    assert refusal(expression).startswith("cron: ")


@pytest.mark.parametrize(
    "expression", ["0 0 30 2 *", "0-59 0-23 31 2,4,6,9,11 *", "1-1000000000 * * * *", "*" * 10_000]
)
def test_no_expression_takes_long_to_refuse(expression: str) -> None:
    started = time.process_time()

    refusal(expression)

    assert time.process_time() - started < 1


def test_every_bad_field_is_named() -> None:
    assert refusal("60 24 * * x").split("; ")[:2] == [
        "cron: minute: 60 is not between 0 and 59",
        "cron: hour: 24 is not between 0 and 23",
    ]


@given(st.text(alphabet="0123456789*/,-#L@ abcmonj?", max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        cron = parse_cron(text)
    except Invalid:
        return
    assert cron.after(wall("2026-11-24")) is not None


def expressions(seed: int, count: int) -> list[str]:
    """Random expressions with a leaning to the hours in which clocks change."""
    chance = random.Random(seed)

    def field(low: int, high: int) -> str:
        kind = chance.random()
        if kind < 0.35:
            return "*"
        if kind < 0.5:
            return f"*/{chance.randint(2, (high - low) // 2)}"
        if kind < 0.75:
            return str(chance.randint(low, high))
        if kind < 0.9:
            first, last = sorted(chance.sample(range(low, high + 1), 2))
            return f"{first}-{last}"
        return ",".join(map(str, sorted(chance.sample(range(low, high + 1), 3))))

    def hour() -> str:
        return chance.choice([field(0, 23), "1", "2", "3", "1-3", "0,2"])

    return [f"{field(0, 59)} {hour()} {field(1, 31)} {field(1, 12)} {field(0, 6)}" for _ in range(count)]


def expected_ticks(expression: str, start: datetime, zone: ZoneInfo, count: int) -> list[datetime]:
    """What cronsim says, each instant once."""
    found: list[datetime] = []
    for tick in CronSim(expression, start.astimezone(zone)):
        if not found or tick.astimezone(UTC) != found[-1]:
            found.append(tick.astimezone(UTC))
        if len(found) == count:
            break
    return found


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, ZoneInfo("UTC"), ZoneInfo("Asia/Kolkata")], ids=str)
@pytest.mark.parametrize("start", ["2026-03-07 12:00", "2026-03-28 12:00", "2026-10-24 12:00", "2026-10-31 12:00"])
def test_ticks_are_those_of_debian_cron_through_both_changes(zone: ZoneInfo, start: str) -> None:
    begin = wall(start).replace(tzinfo=UTC)
    for expression in expressions(7, 200):
        try:
            expected = expected_ticks(expression, begin, zone, 8)
        except CronSimError:
            assert "never fires" in refusal(expression)
            continue

        found = list(islice(ticks(ByCron(cron=parse_cron(expression), zone=zone), begin), len(expected)))

        assert found == expected, expression


@pytest.mark.parametrize(
    "days", ["L * *", "L,15 * *", "L feb *", "* * mon#2", "* * 5L", "* 2,3 mon#1,fri#5", "*/2 * 0L"]
)
def test_last_and_nth_days_are_those_of_cronsim(days: str) -> None:
    expected = list(islice(CronSim(f"30 6 {days}", wall("2026-01-15")), 20))

    assert list(islice(walk(f"30 6 {days}", "2026-01-15"), 20)) == expected


def test_the_walk_over_local_time_is_that_of_croniter_too() -> None:
    for expression in expressions(11, 100):
        try:
            expected = croniter(expression, wall("2026-01-15"), implement_cron_bug=True)
            first = [expected.get_next(datetime) for _ in range(10)]
        except ValueError:
            assert "never fires" in refusal(expression)
            continue
        assert list(islice(walk(expression, "2026-01-15 00:00:01"), 10)) == first, expression


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0 * * * *", "every hour"),
        ("30 * * * *", "at minute 30 of every hour"),
        ("0 3 * * *", "at 03:00 every day"),
        ("0 9,17 * * 1-5", "at 09:00 and 17:00 on Monday to Friday"),
        ("*/15 9-17 * * mon-fri", "every 15 minutes from 09:00 to 17:59 on Monday to Friday"),
        ("10 */6 * * *", "at minute 10 of every 6th hour"),
        ("0 0 1 * *", "at 00:00 on day 1 of the month"),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        ("0 0 13 * 5", "at 00:00 on day 13 of the month or on Friday"),
        ("0 0 */10 * 0", "at 00:00 on days 1, 11, 21 and 31 of the month, if it is Sunday"),
        ("0 9 * * mon#2", "at 09:00 on the 2nd Monday of the month"),
        ("0 9 * * 5L", "at 09:00 on the last Friday of the month"),
        ("0 0 1 1 *", "at 00:00 on day 1 of the month in January"),
        ("0 0 * 6-8 *", "at 00:00 every day in June to August"),
        ("@hourly", "every hour"),
        ("*/7 * * * *", "at minutes 0, 7, … 56 of every hour"),
        ("*/40 * * * *", "at minutes 0 and 40 of every hour"),
        ("*,5 * * * *", "every minute"),
        ("5 */5 * * *", "at minute 5 of the hours 0, 5, 10, 15 and 20"),
        ("*/15 8-18/2 * * *", "every 15 minutes of the hours 8, 10, 12, 14, 16 and 18"),
        ("0 8-12/2 * * *", "at 08:00, 10:00 and 12:00 every day"),
        ("0 0 */2 * *", "at 00:00 on days 1, 3, … 31 of the month"),
        ("0 0 1,15,L * *", "at 00:00 on days 1, 15 and the last of the month"),
        ("0 0 1-7 * */2", "at 00:00 on days 1 to 7 of the month, if it is Sunday, Tuesday, Thursday or Saturday"),
        ("0 0 1-7 * mon-fri/2", "at 00:00 on days 1 to 7 of the month or on Monday, Wednesday and Friday"),
        ("0 0 * 1-12/5 *", "at 00:00 every day in January, June and November"),
    ],
)
def test_an_expression_can_be_said_in_words(expression: str, said: str) -> None:
    assert describe_cron(parse_cron(expression)) == said


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("TZ=Asia/Tokyo 0 3 * * *", "timezone: Asia/Tokyo"),
        ("CRON_TZ=:Asia/Tokyo 0 3 * * *", "timezone: Asia/Tokyo"),
        ("0 1, 2 * * *", "a list cannot contain spaces: see '1,'"),
        ("0 1 ,2 * * *", "a list cannot contain spaces: see ',2'"),
        ("0 3 1 1 * 2027", "6 fields end with a year"),
        ("0 0 3 1 1 * 2027", "7 fields end with a year, which is not supported, and begin with a second"),
        ("0 0 3 1 1 ? *", "7 fields end with a year"),
        ("0 0 3 * * *", "allow them with seconds: true"),
        ("* * * *", "4 fields; it needs minute"),
        ("", "is empty; it needs minute"),
    ],
)
def test_a_wrong_number_of_fields_is_answered_by_what_was_meant(expression: str, hint: str) -> None:
    assert hint in refusal(expression)


def test_seconds_can_be_said_in_words() -> None:
    assert describe_cron(parse_cron("*/10 * * * * *", seconds=True)) == "every 10 seconds"
    assert describe_cron(parse_cron("30 5 4 * * *", seconds=True)) == "at 04:05:30 every day"


def test_each_macro_is_an_expression() -> None:
    assert all(parse_cron(macro).after(wall("2026-11-24")) for macro in MACROS)


def test_what_walks_is_loaded_when_there_is_an_expression_to_walk() -> None:
    program = "import sys, qw.core.schedule.document; sys.exit('croniter' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
