from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.errors import Invalid
from qw.core.task import NewTask, Status, check_new

ID = UUID(int=1)


def new(**more: Any) -> NewTask:
    return NewTask(**{"type": "noop", "id": ID, **more})


def test_three_statuses_are_final() -> None:
    assert {one for one in Status if one.is_final} == {Status.COMPLETED, Status.FAILED, Status.CANCELLED}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"type": "http_request", "queue": "mail-1", "priority": 0, "max_retries": 1},
        {"type": "a.b:c/d-e_f", "priority": 9, "max_retries": 32_000},
        {"type": "x" * 128},
        {"run_at": datetime(2026, 11, 24, tzinfo=UTC)},
        {"run_at": datetime(1990, 1, 1, tzinfo=UTC)},
        {"delay": timedelta(0), "timeout": timedelta(seconds=1)},
        {"unique_key": "customer 7 – März", "idempotency_key": "k" * 512},
        {"headers": {"traceparent": "00-1-2-3"}},
        {"payload": {"a": [1, {"b": None}]}},
    ],
)
def test_a_good_task_is_accepted(more: dict[str, Any]) -> None:
    check_new(new(**more))


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ({"type": ""}, "type", "is not a name"),
        ({"type": "a b"}, "type", "is not a name"),
        ({"type": "-x"}, "type", "is not a name"),
        ({"type": "x" * 129}, "type", "is not a name"),
        ({"type": "a\n"}, "type", "is not a name"),
        ({"type": None}, "type", "is not a name"),
        ({"queue": "é"}, "queue", "is not a name"),
        ({"priority": -1}, "priority", "-1 is not an integer from 0 to 9"),
        ({"priority": 10}, "priority", "from 0 to 9"),
        ({"priority": True}, "priority", "from 0 to 9"),
        ({"priority": 1.5}, "priority", "from 0 to 9"),
        ({"max_retries": 0}, "max_retries", "from 1 to 32000"),
        ({"unique_key": ""}, "unique_key", "1 to 512 characters"),
        ({"unique_key": "x" * 513}, "unique_key", "1 to 512 characters"),
        ({"idempotency_key": "a\0"}, "idempotency_key", "contains NUL"),
        ({"payload": []}, "payload", "must be a JSON object"),
        ({"payload": {"a": float("nan")}}, "payload.a", "is not a JSON number"),
        ({"headers": {"a": 1}}, "headers", "at most 50 headers of text"),
        ({"headers": {str(n): "" for n in range(51)}}, "headers", "at most 50 headers"),
        ({"headers": {"a": "\ud800"}}, "headers.a", "lone surrogate"),
        ({"headers": {"Qw-Webhook-Key": "HOME"}}, "headers.Qw-Webhook-Key", "reserved"),
        ({"headers": {"": "a"}}, "headers.", "1 to 128 characters"),
        ({"headers": {"workflowId": "mine"}}, "headers.workflowId", "must be the id of a workflow"),
        ({"headers": [1]}, "headers", "must be an object with string values"),
        ({"idempotency_key": "compensate x"}, "idempotency_key", "reserved"),
        ({"run_at": datetime(2026, 1, 1)}, "run_at", "needs a time zone"),  # noqa: DTZ001
        ({"run_at": datetime(9999, 1, 1, tzinfo=UTC)}, "run_at", "the year 9999 is not between"),
        ({"run_at": datetime(2026, 1, 1, tzinfo=UTC), "delay": timedelta(1)}, "delay", "run_at or delay, not both"),
        ({"delay": 60}, "delay", "must be a timedelta"),
        ({"delay": timedelta(-1)}, "delay", "must not be negative"),
        ({"timeout": timedelta(-1)}, "timeout", "must not be negative"),
        ({"timeout": timedelta(0)}, "timeout", "must be greater than 0"),
    ],
)
def test_a_task_that_cannot_be_stored_is_refused_with_its_path(more: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_new(new(**more))

    assert [fault.path for fault in caught.value.faults] == [path]
    assert message in caught.value.faults[0].message


def test_every_fault_of_a_task_is_told() -> None:
    with pytest.raises(Invalid) as caught:
        check_new(new(type="a b", priority=99, max_retries=0, payload={"x": "\0"}, timeout=timedelta(0)))

    assert [fault.path for fault in caught.value.faults] == ["type", "priority", "max_retries", "payload.x", "timeout"]


@given(st.text(max_size=140))
def test_a_name_is_ascii_and_short(name: str) -> None:
    try:
        check_new(new(type=name))
    except Invalid:
        return

    assert name.isascii()
    assert 1 <= len(name) <= 128
    assert not set(name) & set(" \t\n\0\"'")
