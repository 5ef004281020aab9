from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from qw.core.event import Event, cloud_event
from qw.core.task.masking import masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"url": "https://ann:s3cret@host/x?a=1"}, {"url": "https://***@host/x?a=1"}),
        ({"url": "https://token@host/"}, {"url": "https://***@host/"}),
        ({"url": "https://a:p@ss@host/"}, {"url": "https://***@host/"}),
        ({"url": "https://host/@me", "to": "me@example.org"}, {"url": "https://host/@me", "to": "me@example.org"}),
        (
            {"headers": {"Authorization": "Bearer x", "COOKIE": "a=b", "X-Api-Key": "k", "Accept": "*/*"}},
            {"headers": {"Authorization": "***", "COOKIE": "***", "X-Api-Key": "***", "Accept": "*/*"}},
        ),
        ({"headers": {"set-cookie": "session=1"}, "status": 200}, {"headers": {"set-cookie": "***"}, "status": 200}),
        ({"run": "true", "env": {"MY_TOKEN": "x", "A": "b"}}, {"run": "true", "env": {"MY_TOKEN": "***", "A": "b"}}),
        ("amqp://u:p@host/ is away", "amqp://***@host/ is away"),
        ([1], [1]),
        (None, None),
    ],
)
def test_credentials_are_not_shown(value: Any, shown: Any) -> None:
    assert masked(value) == shown


def test_what_has_nothing_to_hide_is_the_same_object() -> None:
    payload: dict[str, Any] = {"url": "https://host/", "headers": {"Accept": "*/*"}, "n": 1}

    assert masked(payload) is payload


def test_no_event_tells_credentials() -> None:
    event = Event(
        id=UUID(int=1),
        type="task.completed",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        task_id=UUID(int=2),
        payload={"url": "https://ann:s3cret@host/", "headers": {"Authorization": "Bearer s3cret"}},
        result={"headers": {"set-cookie": "s3cret"}},
    )

    assert "s3cret" not in str(cloud_event(event, "/qw/x"))
