from __future__ import annotations

from dataclasses import replace

import pytest

from qw.core.health import HealthFacts, problems

WELL = HealthFacts(
    workers=1, troubles=[], waiting=0, oldest={"mail": 2.0}, paused=[], failures=[], late=[], broker=None,
    unpublished=0, blocked=0, transaction_seconds=1.0,
)  # fmt: skip


def test_nothing_is_wrong_when_all_is_well() -> None:
    assert problems(WELL) == []


@pytest.mark.parametrize(
    ("changed", "code", "severity", "text"),
    [
        ({"workers": 0, "waiting": 3}, "no_worker", "error", "No worker is running, and 3 tasks waiting"),
        ({"troubles": [(7, "disk full")]}, "worker_trouble", "error", "Worker 7 cannot work: disk full"),
        ({"blocked": 1}, "events_blocked", "error", "1 event cannot be published"),
        ({"broker": "nats"}, "broker_down", "error", "The broker nats cannot be reached; 0 events waiting"),
        ({"oldest": {"mail": 600.0}}, "queue_late", "warning", "The oldest task of queue mail has waited for 10m"),
        ({"late": [("nightly", 120.0)]}, "schedule_late", "warning", "Schedule nightly is 2m late"),
        ({"failures": [("pdf", 1)]}, "failures", "warning", "1 task of type pdf failed within a day"),
        ({"paused": ["mail"]}, "queue_paused", "warning", "Queue mail is paused"),
        (
            {"transaction_seconds": 7200.0}, "long_transaction", "warning",
            "A transaction has been open for 2h, which holds back vacuum",
        ),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_named(changed: dict[str, object], code: str, severity: str, text: str) -> None:
    (found,) = problems(replace(WELL, **changed))  # type: ignore[arg-type]  # a table of fields of several types

    assert (found.code, found.severity, found.text) == (code, severity, text)
    assert found.advice


def test_a_paused_queue_is_not_late() -> None:
    found = problems(replace(WELL, paused=["mail"], oldest={"mail": 6000.0}))

    assert [each.code for each in found] == ["queue_paused"]


def test_errors_stand_before_warnings() -> None:
    found = problems(replace(WELL, workers=0, paused=["a"], blocked=2, failures=[("x", 1)]))

    severities = [each.severity for each in found]
    assert severities == sorted(severities)
    assert severities[0] == "error"


def test_of_many_problems_of_one_kind_the_worst_is_named_and_the_others_are_counted() -> None:
    late = {f"tenant-{number}": 300.0 + number for number in range(200)}

    (found,) = problems(replace(WELL, oldest=late))

    assert found.text == "The oldest task of queue tenant-199 has waited for 8m19s; 199 more queues are late"
    assert found.subject == "tenant-199"


def test_failures_that_are_not_all_counted_are_at_least_as_many() -> None:
    (found,) = problems(replace(WELL, failures=[("pdf", 1000)], more_failed=True))

    assert found.text == "At least 1,000 tasks of type pdf failed within a day"
