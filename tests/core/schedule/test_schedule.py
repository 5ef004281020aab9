from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qw.core.errors import Invalid
from qw.core.schedule import Misfire, Overlap, Schedule, TaskTarget, due_at, ticks_of
from qw.core.schedule.cron import parse_cron
from qw.core.schedule.fire_decision import MOST, FireDecision, ScheduleState, SkipReason, decide, first_tick, pass_over
from qw.core.schedule.timing import ByCron, shown, ticks

ID, EARLIER = UUID(int=7), UUID(int=3)
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MARK = at("2026-11-24 12:00")


def ids() -> Iterator[UUID]:
    return (UUID(int=n) for n in range(100, 100_000))


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"name": "s", "target": TaskTarget(type="noop"), "cron": "* * * * *", **fields})


def state(*, mark: datetime = MARK, busy: UUID | None = None, **fields: Any) -> ScheduleState:
    return ScheduleState(id=ID, schedule=schedule(**fields), created_at=MARK, mark=mark, busy=busy)


def fired(decision: FireDecision) -> list[str]:
    return [f"{fire.tick:%H:%M}" for fire in decision.fires]


def skipped(decision: FireDecision) -> list[str]:
    return [f"{skip.tick:%H:%M} {skip.reason}" for skip in decision.skips]


def local(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The next ticks after a wall time, as clocks there show them, with what they are ahead of UTC."""
    tz = ZoneInfo(zone)
    begin = datetime.fromisoformat(start).replace(tzinfo=tz).astimezone(UTC)
    found = islice(ticks(ByCron(cron=parse_cron(expression), zone=tz), begin), count)
    return [tick.astimezone(tz).strftime("%d %H:%M %z") for tick in found]


# -- time zones


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        # forward: 02:00 to 03:00 on 29 March in Berlin, on 8 March in New York
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", ["29 03:00 +0200", "30 02:30 +0200"]),
        ("30 1 * * *", "Europe/Berlin", "2026-03-28 12:00", ["29 01:30 +0100", "30 01:30 +0200"]),
        ("30 2 * * *", "America/New_York", "2026-03-07 12:00", ["08 03:00 -0400", "09 02:30 -0400"]),
        ("30 1 * * *", "America/New_York", "2026-03-07 12:00", ["08 01:30 -0500", "09 01:30 -0400"]),
        ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28 12:00", ["29 03:00 +0200", "29 03:30 +0200", "30 02:00 +0200"]),
        # back: 03:00 to 02:00 on 25 October in Berlin, 02:00 to 01:00 on 1 November in New York
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("30 1 * * *", "Europe/Berlin", "2026-10-24 12:00", ["25 01:30 +0200", "26 01:30 +0100"]),
        ("30 2 * * *", "America/New_York", "2026-10-31 12:00", ["01 02:30 -0500", "02 02:30 -0500"]),
        ("30 1 * * *", "America/New_York", "2026-10-31 12:00", ["01 01:30 -0400", "02 01:30 -0500"]),
        # elapsed time
        ("0 * * * *", "Europe/Berlin", "2026-03-29 00:30", ["29 01:00 +0100", "29 03:00 +0200", "29 04:00 +0200"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-25 01:30", ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25 02:00", ["25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100"]),
        # half an hour, and a day that never was
        ("*/20 2 * * *", "Australia/Lord_Howe", "2026-10-04 01:59", ["04 02:40 +1100", "05 02:00 +1100"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-29 11:00", ["29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400"]),
    ],
)  # fmt: skip
def test_clock_changes_follow_the_rules_of_the_manual(
    expression: str, zone: str, start: str, expected: list[str]
) -> None:
    assert local(expression, zone, start, len(expected)) == expected


def test_an_unknown_zone_is_refused_with_a_guess() -> None:
    for name in ("Europe/Berlni", "../../etc/passwd", "", "Europe", "x" * 5000, "/etc/localtime"):
        with pytest.raises(Invalid, match=r"timezone: .* is not a time zone"):
            next(ticks_of(schedule(timezone=name), MARK, MARK))
    with pytest.raises(Invalid, match="did you mean 'Europe/Berlin'"):
        next(ticks_of(schedule(timezone="Europe/Berlni"), MARK, MARK))


def test_new_rules_of_a_zone_count_from_the_next_decision() -> None:
    """The tick that is stored was worked out with the old tables; it is due by them, but fires by the new ones."""
    worked_out_with_old_rules = at("2026-07-01 01:00")
    berlin = state(cron="0 3 * * *", timezone="Etc/GMT-1", mark=at("2026-06-30 02:00"))

    decision = decide(berlin, worked_out_with_old_rules, ids())

    assert (decision.fires, decision.skips) == ((), ())
    assert decision.next_tick == at("2026-07-01 02:00")
    assert decision.mark == berlin.mark


def test_a_tick_in_the_second_pass_of_an_hour_is_known_as_such() -> None:
    when = ByCron(cron=parse_cron("0 * * * *"), zone=ZoneInfo("Europe/Berlin"))

    notes = [shown(when, tick).note for tick in islice(ticks(when, at("2026-10-24 23:30")), 3)]

    assert notes == ["this local time occurs twice: first occurrence", "second occurrence of this local time", ""]


def test_a_tick_that_was_moved_out_of_a_gap_says_so() -> None:
    when = ByCron(cron=parse_cron("30 2 * * *"), zone=ZoneInfo("Europe/Berlin"))

    assert shown(when, at("2026-03-29 01:00")).note == "this local time does not exist: first instant after the gap"


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["30 2 * * *", "*/7 1-3 * * *", "0 * * * *", "15,45 0,2 * * 0", "@daily", "59 23 L * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]),
    st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3)),
)
def test_ticks_rise_and_do_not_depend_on_where_the_walk_began(
    expression: str, zone: str, start: datetime, later: timedelta
) -> None:
    when = ByCron(cron=parse_cron(expression), zone=ZoneInfo(zone))
    begin = start.replace(tzinfo=UTC)

    found = list(islice(ticks(when, begin), 40))

    assert all(a < b for a, b in zip([begin, *found], found, strict=False))
    again = list(islice(ticks(when, begin + later), 40))
    assert again[:5] == [tick for tick in found if tick > begin + later][:5] or len(found) == 40


# -- intervals, single times, start and end


def test_an_interval_counts_from_the_creation() -> None:
    found = ticks_of(schedule(cron=None, every=5 * MINUTE), at("2026-11-24 12:02"), at("2026-11-24 12:02"))

    assert [f"{tick:%H:%M}" for tick in islice(found, 2)] == ["12:07", "12:12"]


def test_an_interval_with_a_start_counts_from_that() -> None:
    later = schedule(cron=None, every=5 * MINUTE, start=at("2026-12-01 08:01"))

    assert next(ticks_of(later, MARK, MARK)) == at("2026-12-01 08:01")


def test_no_tick_comes_before_the_start_or_after_the_end() -> None:
    short = schedule(start=at("2026-11-24 12:05"), end=at("2026-11-24 12:07"))

    assert [f"{tick:%H:%M}" for tick in ticks_of(short, MARK, MARK)] == ["12:05", "12:06", "12:07"]


def test_one_time_is_one_tick_also_in_2035() -> None:
    once = schedule(cron=None, at=at("2035-01-01 00:00"))

    assert list(ticks_of(once, MARK, MARK)) == [at("2035-01-01 00:00")]
    assert list(ticks_of(once, MARK, at("2035-01-01 00:00"))) == []


# -- which ticks fire


def test_a_tick_on_time_fires_and_the_mark_rises_to_it() -> None:
    decision = decide(state(), at("2026-11-24 12:01:00.02"), ids())

    assert (fired(decision), skipped(decision)) == (["12:01"], [])
    assert (decision.mark, decision.next_tick) == (at("2026-11-24 12:01"), at("2026-11-24 12:02"))


def test_nothing_fires_a_hair_early() -> None:
    decision = decide(state(), at("2026-11-24 12:00:59.999999"), ids())

    assert (decision.fires, decision.mark, decision.next_tick) == ((), MARK, at("2026-11-24 12:01"))


def test_ticks_on_time_all_fire_whatever_misfire_says() -> None:
    decision = decide(state(cron="* * * * * *", seconds=True, misfire=Misfire.SKIP), MARK + timedelta(seconds=3), ids())

    assert len(decision.fires) == 3


@pytest.mark.parametrize(
    ("misfire", "fires", "skips"),
    [
        (Misfire.SKIP, [], ["12:01 missed", "12:02 missed", "12:03 missed"]),
        (Misfire.ONCE, ["12:03"], ["12:01 missed", "12:02 missed"]),
        (Misfire.ALL, ["12:01", "12:02", "12:03"], []),
    ],
)
def test_missed_ticks_are_caught_up_on_by_policy(misfire: Misfire, fires: list[str], skips: list[str]) -> None:
    decision = decide(state(misfire=misfire), at("2026-11-24 12:03:30"), ids())

    assert (fired(decision), skipped(decision)) == (fires, skips)


def test_a_tick_on_time_stands_for_those_that_were_missed() -> None:
    decision = decide(state(misfire=Misfire.ONCE), at("2026-11-24 12:03:01"), ids())

    assert (fired(decision), skipped(decision)) == (["12:03"], ["12:01 missed", "12:02 missed"])


def test_what_is_older_than_the_window_is_not_caught_up_on() -> None:
    decision = decide(state(misfire=Misfire.ALL, window=2 * MINUTE), at("2026-11-24 12:05:30"), ids())

    assert (fired(decision), skipped(decision)) == (
        ["12:04", "12:05"],
        ["12:01 missed", "12:02 missed", "12:03 missed"],
    )
    assert decision.skips[0].detail == "4m30s late; the window is 2m"


def test_the_cap_bounds_what_is_caught_up_on() -> None:
    decision = decide(state(misfire=Misfire.ALL, cap=2), at("2026-11-24 12:05:30"), ids())

    assert fired(decision) == ["12:04", "12:05"]
    assert decision.skips[-1].detail == "2m30s late; more than the cap of 2"


def test_no_window_means_however_late() -> None:
    once = state(cron=None, at=at("2026-11-24 12:01"), window=None)

    assert fired(decide(once, at("2027-11-24 12:00"), ids())) == ["12:01"]


def test_a_year_of_missed_seconds_is_told_without_a_row_for_each() -> None:
    asleep = state(cron="* * * * * *", seconds=True, misfire=Misfire.ALL, cap=500, window=None)
    now = MARK + timedelta(days=365)

    decision = decide(asleep, now, ids())

    together, *single = decision.skips
    assert together.tick == MARK + timedelta(seconds=1)
    assert together.until is not None
    assert timedelta(0) < single[0].tick - together.until <= timedelta(seconds=1)
    assert len(single) + len(decision.fires) <= MOST
    assert (len(decision.fires), decision.mark) == (500 + 11, now)  # and 11 on time


@pytest.mark.parametrize(
    ("overlap", "fires", "skips", "cancels"),
    [
        (Overlap.ALLOW, ["12:01"], [], ()),
        (Overlap.SKIP, [], ["12:01 overlap"], ()),
        (Overlap.CANCEL, ["12:01"], [], (EARLIER,)),
    ],
)
def test_an_earlier_task_that_is_not_final_counts_by_policy(
    overlap: Overlap, fires: list[str], skips: list[str], cancels: tuple[UUID, ...]
) -> None:
    decision = decide(state(overlap=overlap, busy=EARLIER), at("2026-11-24 12:01:01"), ids())

    assert (fired(decision), skipped(decision), decision.cancels) == (fires, skips, cancels)
    assert [skip.blocker for skip in decision.skips] == [EARLIER] * len(skips)


def test_ticks_that_are_caught_up_on_together_overlap_too() -> None:
    skip = decide(state(overlap=Overlap.SKIP, misfire=Misfire.ALL), at("2026-11-24 12:02:30"), ids())
    cancel = decide(state(overlap=Overlap.CANCEL, misfire=Misfire.ALL), at("2026-11-24 12:02:30"), ids())

    assert (fired(skip), skip.skips[0].blocker) == (["12:01"], skip.fires[0].id)
    assert (fired(cancel), cancel.skips[0].blocker) == (["12:02"], cancel.fires[0].id)


def test_jitter_puts_a_tick_off_by_the_same_time_for_whoever_asks() -> None:
    tick = at("2026-11-24 12:01")
    due = due_at(ID, tick, 30 * MINUTE)

    early = decide(state(jitter=30 * MINUTE), due - timedelta(seconds=1), ids())
    late = decide(state(jitter=30 * MINUTE, cron="1 12 * * *"), due, ids())

    assert tick <= due < tick + 30 * MINUTE
    assert "12:01" not in fired(early)
    assert (fired(late), late.fires[0].tick) == (["12:01"], tick)


def test_jitter_is_spread_over_schedules() -> None:
    offsets = {due_at(UUID(int=n), MARK, timedelta(seconds=60)) - MARK for n in range(100)}

    assert len(offsets) == 100
    assert max(offsets) - min(offsets) > timedelta(seconds=45)


def test_what_is_passed_over_is_skipped_with_the_reason() -> None:
    skips = pass_over(state(), at("2026-11-24 12:02:30"), SkipReason.PAUSED, "paused since 12:00")

    assert [(f"{skip.tick:%H:%M}", skip.reason) for skip in skips] == [("12:01", "paused"), ("12:02", "paused")]


def test_the_first_tick_is_after_now_and_after_the_mark() -> None:
    assert first_tick(state(), at("2026-11-24 13:00:30"))[0] == at("2026-11-24 13:01")
    assert first_tick(state(mark=at("2026-11-24 14:00")), at("2026-11-24 13:00"))[0] == at("2026-11-24 14:01")


def test_a_clock_that_goes_back_brings_no_tick_back() -> None:
    decision = decide(state(), MARK - 10 * MINUTE, ids())

    assert (decision.fires, decision.skips, decision.mark) == ((), (), MARK)
    assert decision.next_tick == at("2026-11-24 12:01")


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *"]),
    st.sampled_from(list(Misfire)),
    st.sampled_from(list(Overlap)),
    st.integers(0, 600),
    st.lists(st.timedeltas(min_value=timedelta(minutes=-20), max_value=timedelta(hours=3)), max_size=12),
)
def test_each_due_tick_is_decided_exactly_once_however_the_clock_moves(
    expression: str, misfire: Misfire, overlap: Overlap, jitter_seconds: int, moves: list[timedelta]
) -> None:
    now, mark = MARK, MARK
    made = ids()
    decided: list[datetime] = []
    for move in moves:
        now += move
        fields: dict[str, Any] = {"cron": expression, "misfire": misfire, "overlap": overlap}
        decision = decide(state(mark=mark, jitter=timedelta(seconds=jitter_seconds), **fields), now, made)
        assert decision.mark >= mark
        mark = decision.mark
        decided += sorted([fire.tick for fire in decision.fires] + [skip.tick for skip in decision.skips])

    assert decided == list(takewhile(lambda tick: tick <= mark, ticks_of(schedule(cron=expression), MARK, MARK)))


@given(
    number=st.integers(min_value=0, max_value=2**64),
    interval=st.integers(min_value=1, max_value=7200),
    jitter=st.integers(min_value=1, max_value=86_400),
)
def test_jitter_delays_each_tick_by_no_more_and_keeps_their_order(number: int, interval: int, jitter: int) -> None:
    spread = timedelta(seconds=jitter)
    due = [due_at(UUID(int=number), MARK + n * timedelta(seconds=interval), spread) for n in range(50)]

    assert due == sorted(due)
    assert all(timedelta(0) <= time - MARK - n * timedelta(seconds=interval) <= spread for n, time in enumerate(due))


@pytest.mark.parametrize("misfire", list(Misfire))
def test_jitter_longer_than_the_interval_loses_no_tick(misfire: Misfire) -> None:
    when: dict[str, Any] = {"cron": None, "every": timedelta(seconds=2), "jitter": timedelta(seconds=40)}
    now, mark, made = MARK, MARK, ids()
    acted_on: dict[datetime, datetime] = {}

    while len(acted_on) < 200:
        decision = decide(state(mark=mark, misfire=misfire, **when), now, made)
        assert not decision.skips
        acted_on |= {fire.tick: now for fire in decision.fires}
        assert decision.next_at is not None
        now, mark = decision.next_at, decision.mark

    assert sorted(acted_on) == [MARK + n * timedelta(seconds=2) for n in range(1, len(acted_on) + 1)]
    assert all(time == due_at(ID, tick, when["jitter"]) for tick, time in acted_on.items())
