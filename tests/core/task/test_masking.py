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
        (
            {"order": {"customers": [{"name": "ann", "apiToken": "t", "card": {"Password": 1234}}]}},
            {"order": {"customers": [{"name": "ann", "apiToken": "***", "card": {"Password": "***"}}]}},
        ),
        ({"body": {"api-key": "k", "client_secret": "s"}}, {"body": {"api-key": "***", "client_secret": "***"}}),
        ({"credentials": {"user": "ann", "of": ["x"]}}, {"credentials": "***"}),
        ({"hooks": ["https://u:p@host/"]}, {"hooks": ["https://***@host/"]}),
        ([{"session_cookie": "c"}], [{"session_cookie": "***"}]),
        (
            {"max_tokens": 512, "has_password": True, "token": None},
            {"max_tokens": 512, "has_password": True, "token": None},
        ),
        ({"tokenizer": "bpe", "secretary": "Bo"}, {"tokenizer": "bpe", "secretary": "Bo"}),
        (
            {"url": "https://host/x?token=s3cret&page=2&api_key=k&X-Amz-Signature=f00&sig=a%2Bb#top"},
            {"url": "https://host/x?token=***&page=2&api_key=***&X-Amz-Signature=***&sig=***#top"},
        ),
        ("GET https://host/?access_token=s3cret failed: 503", "GET https://host/?access_token=*** failed: 503"),
        ({"url": "https://host/?design=1&q=a=b"}, {"url": "https://host/?design=1&q=a=b"}),
        ([1], [1]),
        (None, None),
    ],
)
def test_credentials_are_not_shown(value: Any, shown: Any) -> None:
    assert masked(value) == shown


def test_what_has_nothing_to_hide_is_the_same_object() -> None:
    payload: dict[str, Any] = {"url": "https://host/", "headers": {"Accept": "*/*"}, "n": 1, "of": [{"a": ["b"]}]}

    assert masked(payload) is payload


def test_what_is_nested_deeper_than_can_be_walked_is_not_shown() -> None:
    value: Any = {"password": "s3cret"}
    for _ in range(5000):
        value = [value]

    shown, depth = masked(value), 0
    while isinstance(shown, list):
        shown, depth = shown[0], depth + 1
    assert (shown, depth < 300) == ("***", True)


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
