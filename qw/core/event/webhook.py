"""Webhooks: which events are sent to which URL, and the signature of the requests.

The signature follows the Standard Webhooks specification: HMAC-SHA256 over id, time and body.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from uuid import UUID

from qw.core.errors import Invalid
from qw.core.event.event import Event
from qw.core.ids import uuid7

QUEUE = "webhooks"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of a base64 key
HEADER = "qw-webhook"  # header of delivery tasks with the rule's name; their events are not sent to webhooks
KEY_HEADER = "qw-webhook-key"  # the secret_env of the rule, if it has one


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A rule and its URL. Empty ``types`` (of tasks) and ``queues``: any. ``secret_env``: variable with the secret."""

    name: str
    url: str
    events: frozenset[str]
    types: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    headers: dict[str, str] = field(default_factory=dict)
    secret_env: str | None = None
    max_retries: int = 10

    def wants(self, event: Event) -> bool:
        return (
            event.type in self.events
            and HEADER not in (event.headers or {})
            and (not self.types or event.about in self.types)
            and (not self.queues or event.queue in self.queues)
        )


def delivery_id(event: Event, name: str) -> UUID:
    """Return the id of the task that delivers *event* to the webhook *name*; constant, so it is enqueued once."""
    digest = hashlib.sha256(f"{event.id} {name}".encode()).digest()
    return uuid7(int(event.at.timestamp() * 1000), digest[:10])


def signature(secret: str, *, id: str, timestamp: int, body: bytes) -> str:
    """Return ``v1,`` and the HMAC of ``id.timestamp.body``. Raise Invalid if ``whsec_`` is not followed by base64."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    """Return the key: the decoded base64 after ``whsec_``, as the specification says; any other text unchanged."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raise Invalid(f"a webhook secret that begins with {SECRET_PREFIX} must continue in base64") from None
