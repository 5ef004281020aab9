"""Webhooks: a task of type http_request for every event that a rule names, in the queue ``webhooks``.

So they have what tasks have: retries, a log, and failed ones that can be looked at and retried. The signature is made
when a request is sent, because its receivers take only a fresh one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from qw.core.errors import Fault, Misconfigured
from qw.core.event import Event, cloud_event
from qw.core.payload import JsonObject
from qw.core.task import Backoff, NewTask
from qw.core.webhook import HEADER, QUEUE, Webhook, delivery_id, signature
from qw.services.context import Connections
from qw.store import tasks

BACKOFF = Backoff(delay=timedelta(seconds=5), factor=3, max_delay=timedelta(hours=1))


class Deliveries:
    """The webhooks of a daemon, as its relay sees them."""

    def __init__(self, pool: Connections, hooks: Sequence[Webhook], *, source: str) -> None:
        self._pool = pool
        self._hooks = hooks
        self._source = source
        self.types = frozenset(type for hook in hooks for type in hook.events)

    async def deliver(self, told: Sequence[Event]) -> None:
        new = [self._task(event, hook) for event in told for hook in self._hooks if hook.wants(event)]
        if new:
            async with self._pool.connection() as conn:
                await tasks.enqueue(conn, new)

    def _task(self, event: Event, hook: Webhook) -> NewTask:
        payload: JsonObject = {
            "url": hook.url,
            "method": "POST",
            "headers": {**hook.headers, "Content-Type": "application/cloudevents+json"},
            "body": cloud_event(event, self._source),
        }
        return NewTask(
            id=delivery_id(event, hook.name),
            type="http_request",
            queue=QUEUE,
            payload=payload,
            max_retries=hook.max_retries,
            backoff=BACKOFF,
            headers={HEADER: hook.name, "qw-event": str(event.id)},
        )


def signer(
    hooks: Sequence[Webhook], environ: Mapping[str, str]
) -> Callable[[Mapping[str, str], bytes], dict[str, str]]:
    """What makes the headers that sign a body, given those of its task. Raise Misconfigured for a missing secret."""
    secrets = {hook.name: environ.get(hook.secret_env, "") for hook in hooks if hook.secret_env}
    if missing := sorted(name for name, secret in secrets.items() if not secret):
        faults = [Fault(path=f"webhooks.{name}.secret_env", message="this variable is not set") for name in missing]
        raise Misconfigured(*faults)

    def sign(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        name = headers.get(HEADER)
        if name is None:
            return {}
        id, timestamp = headers.get("qw-event", ""), int(time.time())
        signed = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
        if secret := secrets.get(name):
            signed["webhook-signature"] = signature(secret, id=id, timestamp=timestamp, body=body)
        return signed

    return sign
