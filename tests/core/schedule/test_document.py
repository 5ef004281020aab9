from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.schedule import Misfire, Overlap, Schedule, TaskTarget, WorkflowTarget
from qw.core.schedule.describe import describe, describe_target
from qw.core.schedule.document import parse_schedule


def read(**document: Any) -> Schedule:
    return parse_schedule("nightly", {"cron": "0 3 * * *", "type": "noop", **document})


def refusal(document: Any, name: str = "nightly") -> list[str]:
    with pytest.raises(Invalid) as raised:
        parse_schedule(name, document)
    return [str(fault) for fault in raised.value.faults]


def test_a_schedule_needs_a_time_and_something_to_start() -> None:
    schedule = read()

    assert schedule == Schedule(name="nightly", cron="0 3 * * *", target=TaskTarget(type="noop"))
    assert (schedule.misfire, schedule.window, schedule.overlap) == (Misfire.ONCE, timedelta(hours=1), Overlap.ALLOW)


def test_everything_can_be_said() -> None:
    schedule = parse_schedule(
        "n",
        {
            "cron": "30 0 3 * * *", "seconds": True, "timezone": "Europe/Berlin", "type": "send_email",
            "with": {"customerId": "zoe"}, "queue": "mail", "priority": 2, "max_retries": 5, "timeout": "10m",
            "misfire": "all", "window": "2d", "cap": 7, "overlap": "cancel", "jitter": "30s",
            "start": "2026-12-01T00:00:00", "end": "2027-12-01T00:00:00Z", "paused": True, "description": "Greet",
        },
    )  # fmt: skip

    assert schedule == Schedule(
        name="n",
        target=TaskTarget(
            type="send_email",
            payload={"customerId": "zoe"},
            queue="mail",
            priority=2,
            max_retries=5,
            timeout=timedelta(minutes=10),
        ),
        cron="30 0 3 * * *",
        seconds=True,
        timezone="Europe/Berlin",
        misfire=Misfire.ALL,
        window=timedelta(days=2),
        cap=7,
        overlap=Overlap.CANCEL,
        jitter=timedelta(seconds=30),
        start=datetime(2026, 11, 30, 23, tzinfo=UTC),
        end=datetime(2027, 12, 1, tzinfo=UTC),
        paused=True,
        description="Greet",
    )


def test_a_schedule_may_start_a_workflow() -> None:
    schedule = parse_schedule("n", {"every": "5m", "workflow": "invoice", "with": {"customerId": "zoe"}})

    assert schedule.target == WorkflowTarget(workflow="invoice", input={"customerId": "zoe"})
    assert (describe(schedule), describe_target(schedule)) == ("every 5m", "workflow invoice")


def test_a_schedule_may_run_a_command() -> None:
    schedule = parse_schedule("n", {"cron": "@every 90s", "run": 'echo "$NAME"', "env": {"NAME": "Zoë"}})

    assert schedule.every == timedelta(seconds=90)
    assert schedule.target == TaskTarget(type="command", payload={"run": 'echo "$NAME"', "env": {"NAME": "Zoë"}})
    assert isinstance(schedule.target, TaskTarget)
    assert schedule.target.is_program


def test_a_single_time_has_no_window_unless_it_is_given_one() -> None:
    assert parse_schedule("n", {"at": "2035-01-01T00:00:00Z", "type": "noop"}).window is None
    assert parse_schedule("n", {"at": "2035-01-01T00:00:00Z", "type": "noop", "window": "1h"}).window is not None


def test_a_time_without_an_offset_is_meant_in_the_zone_of_the_schedule() -> None:
    schedule = parse_schedule("n", {"at": "2026-03-29T02:30:00", "timezone": "Europe/Berlin", "type": "noop"})

    assert schedule.at == datetime(2026, 3, 29, 1, tzinfo=UTC)  # 02:30 does not exist that day
    assert describe(schedule) == "once, at 2026-03-29 01:00:00 UTC"


@pytest.mark.parametrize(
    "time",
    [
        "infinity",
        "-infinity",
        "2026-12-31T23:59:60Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00",
        "soon",
        5,
        "",
        "x" * 999,
    ],
)
def test_times_that_are_none_are_refused(time: object) -> None:
    assert [fault.partition(":")[0] for fault in refusal({"at": time, "type": "noop"})] == ["at"]


def test_the_year_2038_is_a_year_like_others() -> None:
    after_32_bits = "2038-01-19T03:14:08Z"

    assert parse_schedule("n", {"at": after_32_bits, "type": "noop"}).at == datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        ({"cron": "60 * * * *", "type": "noop"}, ["cron: minute: 60 is not between 0 and 59"]),
        ({"type": "noop"}, ["needs one of cron:, every: and at:, not none"]),
        (
            {"cron": "@daily", "every": "5m", "type": "noop"},
            ["every: needs one of cron:, every: and at:, not cron and every"],
        ),
        ({"cron": "@daily"}, ["needs one of type:, run: (a shell command) and workflow:, not none"]),
        ({"every": "0s", "type": "noop"}, ["every: must be at least 1s"]),
        ({"cron": "@every soon", "type": "noop"}, ["cron: 'soon' is not a duration such as 30s, 5m, 2h or 1d"]),
        ({"every": "5m", "seconds": True, "type": "noop"}, ["seconds: is allowed only with cron:"]),
        (
            {"every": "5m", "type": "no op"},
            ["type: 'no op' is not a name: letters, digits and _ . : / - (at most 128, not starting with a sign)"],
        ),
        ({"every": "5m", "type": "noop", "priority": 11}, ["priority: 11 is not an integer from 0 to 9"]),
        (
            {"every": "5m", "type": "noop", "with": {"a": "\0"}},
            ["with.a: contains NUL (\\u0000), which PostgreSQL cannot store"],
        ),
        (
            {"every": "5m", "workflow": "w", "queue": "q"},
            ["queue: is allowed only with type: or run:; the steps of a workflow have their own"],
        ),
        (
            {"every": "5m", "type": "noop", "misfire": "onec"},
            ["misfire: 'onec' is not one of skip, once, all; did you mean 'once'?"],
        ),
        ({"every": "5m", "type": "noop", "cap": 501}, ["cap: must be an integer from 1 to 500, not 501"]),
        ({"every": "5m", "type": "noop", "jitter": "2d"}, ["jitter: is longer than a day"]),
        (
            {"every": "5m", "type": "noop", "timezon": "UTC"},
            ["timezon: 'timezon' is not a key of a schedule; did you mean 'timezone'?"],
        ),
        ({"every": "5m", "type": "noop", "paused": "yes"}, ["paused: must be true or false, not a string"]),
        (
            {"cron": "0 0 1 1 *", "type": "noop", "start": "2026-02-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"},
            ["end: it never fires: it has no tick after its start and before its end"],
        ),
        (
            {"at": "2026-01-01T00:00:00Z", "type": "noop", "start": "2026-02-01T00:00:00Z"},
            ["start: it never fires: its time comes before its start"],
        ),
        ([], ["a schedule must be an object with cron:, every: or at:, not a list"]),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(document: Any, faults: list[str]) -> None:
    assert refusal(document) == faults


def test_every_fault_is_told_at_once() -> None:
    faults = refusal({"cron": "60 * * * *", "timezone": "Mars", "overlap": "no", "type": "noop"}, "a b")

    assert [fault.partition(":")[0] for fault in faults] == ["name", "overlap", "timezone", "cron"]
