from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.errors import Invalid
from qw.core.task.inbound import read, task_of

ID = UUID("019331e2-6f4a-7000-8000-00000000002a")


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def nest(pattern: str = "http.request", **data: Any) -> bytes:
    return body({"pattern": pattern, "data": data})


def test_an_envelope_asks_for_a_task() -> None:
    asked = read(nest(payload={"url": "http://x"}, queue="web", priority=1, delay="5s", maxRetries=2), "m-1")
    assert asked is not None

    task = task_of(asked, ID)

    assert (task.id, task.type, task.payload) == (ID, "http_request", {"url": "http://x"})
    assert (task.queue, task.priority, task.delay, task.max_retries) == ("web", 1, timedelta(seconds=5), 2)
    assert task.idempotency_key == "message:m-1"


def test_a_cloudevent_asks_for_a_task_and_its_id_counts() -> None:
    document = {"specversion": "1.0", "id": "order-7", "source": "/shop", "type": "shop.order",
                "data": {"taskType": "noop", "payload": {"a": 1}}}  # fmt: skip

    asked = read(body(document), None)
    assert asked is not None

    assert task_of(asked, ID).type == "noop"
    assert asked.message_id == "order-7"


def test_a_message_without_any_id_has_no_key() -> None:
    asked = read(nest("task.created", taskType="noop"), None)
    assert asked is not None

    assert task_of(asked, ID).idempotency_key is None


@pytest.mark.parametrize(
    "document",
    [
        {"specversion": "1.0", "source": "/qw/shop", "type": "qw.task.completed.v1", "data": {"taskType": "noop"}},
        {"pattern": "http.request", "data": {"taskType": "http_request", "metadata": {"source": "/qw/shop"}}},
    ],
)
def test_own_messages_are_recognised(document: Any) -> None:
    assert read(body(document), "1") is None


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"not json", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"[]", "must be a JSON object"),
        (b"{}", "message.data"),
        (nest("task.created"), "taskType"),
        (nest(payload=[]), "payload"),
        (nest(payload={}, priority=12), "priority"),
        (nest(payload={}, delay="soon", scheduledAt="never"), "scheduledAt.*delay"),
        (nest(payload={}, scheduledAt="2026-11-24T10:00:00"), "zone"),
        (nest(payload={}, taskId="7"), "UUID"),
        (nest("task.created", taskType="command", payload={"argv": ["rm"]}), "argv"),
        (nest("task.created", taskType="command", payload={"run": "rm"}), "argv"),
        (nest(headers={"a": "b" * 5000}), "headers"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(document: bytes, complaint: str) -> None:
    with pytest.raises(Invalid, match=f"(?s){complaint}"):
        task_of_all(document)


def task_of_all(document: bytes) -> None:
    asked = read(document, "1")
    assert asked is not None
    task_of(asked, ID)
