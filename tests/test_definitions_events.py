"""``webhooks:`` and ``remote:`` in a file of definitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from qw.core.errors import Invalid
from qw.core.event import LOUD, TYPES, Event
from qw.core.event.webhook import HEADER, delivery_id, signature
from qw.definitions import loads


def test_a_webhook_is_read() -> None:
    hook = loads("""
version: 1
webhooks:
  billing:
    url: https://billing.example.org/hook
    events: [task.completed, task.f*]
    types: create_invoice
    headers: {X-Shop: "7"}
    secret_env: BILLING_SECRET
    max_retries: 5
""").webhooks["billing"]

    assert (hook.name, hook.url) == ("billing", "https://billing.example.org/hook")
    assert hook.events == {"task.completed", "task.failed"}
    assert hook.types == {"create_invoice"}
    assert (hook.headers, hook.secret_env, hook.max_retries) == ({"X-Shop": "7"}, "BILLING_SECRET", 5)


def test_a_webhook_without_events_is_told_all_but_the_loud() -> None:
    hook = loads("webhooks: {all: {url: 'http://x'}}").webhooks["all"]

    assert hook.events == frozenset(TYPES) - LOUD


def test_a_webhook_wants_what_its_rule_names_and_nothing_of_webhooks_themselves() -> None:
    text = "webhooks: {some: {url: 'http://x', events: [task.failed], types: [noop], queues: [mail]}}"
    hook = loads(text).webhooks["some"]

    def wanted(type: str = "task.failed", about: str = "noop", queue: str = "mail", **headers: str) -> bool:
        return hook.wants(Event(id=uuid4(), type=type, at=datetime.now(UTC), about=about, queue=queue, headers=headers))

    assert wanted()
    assert not wanted(type="task.completed")
    assert not wanted(about="command")
    assert not wanted(queue="default")
    assert not wanted(**{HEADER: "other"})


def test_a_delivery_has_one_id_however_often_it_is_made() -> None:
    event = Event(id=uuid4(), type="task.failed", at=datetime.now(UTC))

    assert delivery_id(event, "a") == delivery_id(event, "a")
    assert delivery_id(event, "a") != delivery_id(event, "b")
    assert delivery_id(event, "a").version == 7


def test_a_signature_is_that_of_the_specification() -> None:
    # made with: printf msg_1.1700000000.{} | openssl dgst -sha256 -hmac secret -binary | base64
    assert signature("secret", id="msg_1", timestamp=1_700_000_000, body=b"{}") == (
        "v1,A5oIrJxXPB/PkULSoVu0e4khvPiqpF9vljmhkSKg0FI="
    )


def test_a_remote_type_is_read() -> None:
    remotes = loads("remote: {shout: {timeout: 30s}, ocr: {url: 'http://x/ocr', max_retries: 9}, plain: }").remotes

    assert (remotes["shout"].queue, remotes["shout"].timeout) == ("qw.remote.shout", timedelta(seconds=30))
    assert (remotes["ocr"].url, remotes["ocr"].queue, remotes["ocr"].max_retries) == ("http://x/ocr", None, 9)
    assert remotes["plain"].queue == "qw.remote.plain"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("webhooks: {a: {}}", "must be a URL"),
        ("webhooks: {a: {url: 'ftp://x'}}", "must be a URL"),
        ("webhooks: {a: {url: 'http://x', events: [task.complete]}}", "did you mean 'task.completed'"),
        ("webhooks: {a: {url: 'http://x', event: []}}", "did you mean 'events'"),
        (
            "webhooks: {a: {url: 'http://x', secret_env: QW_API_TOKENS}}",
            "cannot be the variable for a webhook's secret",
        ),
        ("webhooks: {a: {url: 'http://x', secret_env: PGPASSWORD}}", "cannot be the variable for a webhook's secret"),
        ("webhooks: {a: {url: 'http://x', max_retries: 0}}", "integer from 1 to 100"),
        ("webhooks: {a: {url: 'http://x', headers: {n: 1}}}", "must be a string, not a number; put it in quotes"),
        ("queues: {a: {pausd: true}}", r"1:14: 'pausd' is not a key of a queue; did you mean 'paused'"),
        ("queues: {a: {paused: yes please}}", "1:14: must be true or false, not a string"),
        ("queues: {a: {concurrency: 0}}", "1:14: must be an integer from 1 to 1,000,000, not 0"),
        ("queues: {a: {per_key: 2}}", "1:10: is missing: what is limited per key needs a path"),
        ("queues: {'a b': {}}", "1:10: 'a b' is not a name"),
        ("queues: {a: [1]}", "1:10: a queue must be an object"),
        ("remote: {a: {url: 'http://x', queue: q}}", "not both"),
        ("remote: {a: {url: x}}", "must be a URL"),
        ("remote: {a: {timeout: soon}}", "not a duration"),
        ("remote: {'a b': {}}", "not the name of a type"),
        ("remote: {a: [1]}", "must be an object"),
    ],
)
def test_what_is_wrong_is_named(text: str, complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        loads(text)
