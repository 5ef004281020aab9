"""Webhooks: who wants which events by HTTP, and how they can tell that a request is ours.

Signed as the Standard Webhooks specification has it: HMAC-SHA256 over id, time and body.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from dataclasses import dataclass, field
from uuid import UUID

from qw.core.event.event import Event
from qw.core.ids import uuid7

QUEUE = "webhooks"
HEADER = "qw-webhook"  # on the tasks that deliver: the rule; what happens to these is told to no webhook
KEY_HEADER = "qw-webhook-key"  # the secret_env of the rule, if it has one


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A rule and where it leads. Empty ``types`` (of tasks) and ``queues``: any. ``secret_env`` names a variable."""

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
    """The id of the task that takes *event* to the webhook *name*: always the same, so it is enqueued once."""
    digest = hashlib.sha256(f"{event.id} {name}".encode()).digest()
    return uuid7(int(event.at.timestamp() * 1000), digest[:10])


def signature(secret: str, *, id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the HMAC of ``id.timestamp.body``."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
