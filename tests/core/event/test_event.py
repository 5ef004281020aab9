from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from qw.core.errors import Invalid
from qw.core.event import TYPES, Event, EventFormat, cloud_event, default_types, message, select, topic, type_of_pattern

AT = datetime(2026, 11, 24, 4, 11, 19, 512_345, tzinfo=UTC)
TASK = UUID("019331e2-6f4a-7000-8000-00000000002a")
RUN = UUID("019331e2-6f4a-7000-8000-00000000002b")
ID = UUID("4a1c9b7e-3f43-4d31-9d3c-0123456789ab")


def event(type: str = "task.completed", **fields: Any) -> Event:
    return Event(**{"id": ID, "type": type, "at": AT, "task_id": TASK, "about": "http_request", **fields})


def told(event: Event, format: EventFormat = EventFormat.CLOUDEVENTS, limit: int | None = None) -> Any:
    return json.loads(message(event, format, source="/qw/shop", limit=limit).body)


def test_an_event_is_a_cloudevent() -> None:
    assert told(event(queue="default", attempt=2, result={"ok": True}, headers={"traceparent": "00-1-2-01"})) == {
        "specversion": "1.0",
        "id": str(ID),
        "source": "/qw/shop",
        "type": "qw.task.completed.v1",
        "subject": str(TASK),
        "time": "2026-11-24T04:11:19.512Z",
        "datacontenttype": "application/json",
        "traceparent": "00-1-2-01",
        "data": {
            "taskId": str(TASK),
            "taskType": "http_request",
            "queue": "default",
            "attempt": 2,
            "result": {"ok": True},
        },
    }


def test_an_event_of_a_run_names_its_workflow() -> None:
    told_of = told(event("workflow.run.failed", task_id=None, run_id=RUN, about="invoice", error="no orders"))

    assert told_of["subject"] == str(RUN)
    assert told_of["data"] == {"runId": str(RUN), "workflow": "invoice", "error": "no orders"}


def test_a_new_task_is_an_envelope_for_nest() -> None:
    made = event("task.created", created_at=AT, workflow_id=str(RUN))

    assert told(made, EventFormat.NEST) == {
        "pattern": "http.request",
        "data": {
            "taskId": str(TASK),
            "taskType": "http_request",
            "workflowId": str(RUN),
            "metadata": {"createdAt": "2026-11-24T04:11:19.512Z", "eventId": str(ID), "source": "/qw/shop"},
        },
    }


@pytest.mark.parametrize(
    ("type", "about", "pattern"),
    [
        ("task.created", "send_email", "send.email"),
        ("task.created", "resize", "task.created"),
        ("task.retrying", "create_invoice", "create.invoice"),
        ("task.failed", "create_invoice", "task.failed"),
    ],
)
def test_the_pattern_names_what_is_to_be_done(type: str, about: str, pattern: str) -> None:
    assert told(event(type, about=about), EventFormat.NEST)["pattern"] == pattern


def test_a_retry_says_how_often_it_was_tried() -> None:
    assert told(event("task.retrying", attempt=2), EventFormat.NEST)["data"]["metadata"]["retryCount"] == 2


def test_a_pattern_stands_for_one_type() -> None:
    assert type_of_pattern("fetch.orders") == "fetch_orders"
    assert type_of_pattern("task.created") is None


def test_what_is_too_long_is_left_out_and_the_message_says_so() -> None:
    long = event("task.failed", error="x" * 50_000, payload={"a": "b" * 50_000}, data={"log": "c" * 50_000})

    short = told(long, limit=10_000)

    assert short["data"]["shortened"] is True
    assert short["data"]["error"] == "x" * 1000
    assert "payload" not in short["data"]
    assert short["id"] == str(ID)


def test_a_message_within_the_limit_is_whole() -> None:
    assert told(event(result="x" * 1000), limit=10_000)["data"]["result"] == "x" * 1000


def test_a_replayed_event_is_what_it_was() -> None:
    first = cloud_event(event(result=1, attempt=3), "/qw/shop")

    assert told(event(data={"replayed": first})) == first
    assert (
        told(event("task.retrying", data={"replayed": first}), EventFormat.NEST)["data"]["metadata"]["retryCount"] == 3
    )


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ("noop", "task.completed.noop"),
        ("a..b.", "task.completed.a.b"),
        (None, "task.completed"),
    ],
)
def test_topics_have_no_empty_word(about: str | None, expected: str) -> None:
    assert topic(event(about=about)) == expected


def test_patterns_select_types() -> None:
    assert select(["task.*"]) == {type for type in TYPES if type.startswith("task.")}
    assert select(["worker.up", "queue.*"]) == {"worker.up", "queue.paused", "queue.resumed"}
    with pytest.raises(Invalid, match=r"'task.complete' matches no event; did you mean 'task.completed'"):
        select(["task.complete"])


def test_the_loud_are_told_only_when_asked_for() -> None:
    assert not default_types(EventFormat.CLOUDEVENTS) & {"task.started", "task.progressed"}
    assert default_types(EventFormat.NEST) == {"task.created", "task.retrying"}
