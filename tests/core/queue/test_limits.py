from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from qw.core.errors import Fault, Invalid
from qw.core.queue.limits import Limits, Rate, limits_of, parse_limits, parse_rate
from qw.core.task.payload import JsonObject

FULL: JsonObject = {
    "concurrency": 10,
    "rate": "100/m",
    "key": "payload.customer.id",
    "per_key": 2,
    "per_key_rate": "5/30s",
}


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/m", Rate(count=100, period=timedelta(minutes=1))),
        ("5/s", Rate(count=5, period=timedelta(seconds=1))),
        ("10/30s", Rate(count=10, period=timedelta(seconds=30))),
        ("1 / 1h30m", Rate(count=1, period=timedelta(minutes=90))),
    ],
)
def test_a_rate_is_a_count_per_time_and_is_written_as_it_is_read(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "100/", "/m", "x/m", "100/fortnight", "0/m", "1/0s", "1/9999d", "-1/m", 5, None]
)
def test_what_is_no_rate_is_refused_with_one_that_is(text: object) -> None:
    with pytest.raises(Invalid, match="rate"):
        parse_rate(text)


def test_limits_are_read_and_written_the_same() -> None:
    limits = limits_of(FULL)

    assert limits.document() == FULL
    assert str(limits) == "10 at once, 100/m, 2 at once per customer.id, 5/30s per customer.id"
    assert str(limits_of({"concurrency": 1})) == "1 at once"


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({}, "queues.q: sets no limit: give concurrency, rate, or key with per_key or per_key_rate"),
        ({"per_key": 2}, "queues.q.key: is missing: what is limited per key needs a path such as payload.customerId"),
        (
            {"key": "payload.a", "rate": "1/s"},
            "queues.q.key: has no effect without a limit per key: add per_key or per_key_rate",
        ),
        ({"concurrency": 0}, "queues.q.concurrency: must be an integer from 1 to 1,000,000, not 0"),
        ({"concurrency": True}, "queues.q.concurrency: must be an integer from 1 to 1,000,000, not a boolean"),
        ({"concurrency": 1.5}, "queues.q.concurrency: must be an integer from 1 to 1,000,000, not 1.5"),
        ({"rate": "fast"}, "queues.q.rate: 'fast' is not a rate such as 100/m, 5/s or 10/30s"),
        ({"concurency": 1}, "queues.q.concurency: 'concurency' is not a key of limits; did you mean 'concurrency'?"),
        (
            {"key": "id", "per_key": 1},
            "queues.q.key: 'id' is not a path into the payload such as payload.customerId or payload.customer.id",
        ),
    ],
)
def test_each_fault_says_where_it_is_and_what_would_be_right(document: dict[str, Any], fault: str) -> None:
    faults: list[Fault] = []

    parse_limits(document, "queues.q", faults)

    assert [str(each) for each in faults] == [fault]


def test_all_faults_are_found_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        limits_of({"rate": 5, "per_key": "2", "key": 7})

    assert [fault.path for fault in caught.value.faults] == ["rate", "key", "per_key"]


def test_no_limits_at_all_are_the_default() -> None:
    assert Limits().document() == {}
