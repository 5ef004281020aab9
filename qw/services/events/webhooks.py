"""Webhooks: creates a task of type http_request, in the queue ``webhooks``, for every event that a rule matches.

So deliveries have retries and a log, and failed ones can be inspected and retried. Requests are signed when sent,
because receivers accept only recent signatures. A task contains the name of the variable with the key, never the key;
the sending daemons have it in their environment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from qw.clock import clock
from qw.core.errors import Fault, Invalid, Misconfigured
from qw.core.event import Event, cloud_event
from qw.core.event.webhook import HEADER, KEY_HEADER, QUEUE, Webhook, delivery_id, signature
from qw.core.task import Backoff, NewTask
from qw.core.task.handler_api import Retry
from qw.core.task.payload import JsonObject
from qw.definitions.webhooks import parse_webhook
from qw.services.execution.context import ConnectionSource
from qw.store import applied, tasks
from qw.store.connection import Connection

log = logging.getLogger(__name__)

BACKOFF = Backoff(delay=timedelta(seconds=5), factor=3, max_delay=timedelta(hours=1))
CHECK_SECONDS = 2.0  # interval at which applied webhooks are reloaded


class Deliveries:
    """The webhooks of a daemon's relay: from its own files and from the database; the latter take precedence.

    ``types`` are the event types that they want.
    """

    def __init__(self, pool: ConnectionSource, hooks: Sequence[Webhook], *, source: str) -> None:
        self._pool = pool
        self._own = {hook.name: hook for hook in hooks}
        self._hooks = self._own
        self._documents: Mapping[str, JsonObject] | None = None
        self._source = source
        self._checked_at: float | None = None

    @property
    def types(self) -> frozenset[str]:
        return frozenset(type for hook in self._hooks.values() for type in hook.events)

    async def refresh(self, conn: Connection) -> bool:
        """Reload the applied webhooks, at most every CHECK_SECONDS. Return whether they changed."""
        now = time.monotonic()
        if self._checked_at is not None and now - self._checked_at < CHECK_SECONDS:
            return False
        self._checked_at = now
        documents = await applied.of_kind(conn, "webhook")
        if documents == self._documents:
            return False
        self._documents = documents
        self._hooks = {**self._own, **_read(documents)}
        return True

    def replace(self, hooks: Sequence[Webhook]) -> None:
        """Replace the webhooks of the daemon's own files; effective with the next `refresh`."""
        self._own = {hook.name: hook for hook in hooks}
        self._documents, self._checked_at = None, None

    async def deliver(self, events: Sequence[Event]) -> None:
        new = [self._task(event, hook) for event in events for hook in self._hooks.values() if hook.wants(event)]
        if new:
            async with self._pool.connection() as conn:
                await tasks.store(conn, new)  # an event delivered again may have other content: the first is kept

    def _task(self, event: Event, hook: Webhook) -> NewTask:
        payload: JsonObject = {
            "url": hook.url,
            "method": "POST",
            "headers": {**hook.headers, "Content-Type": "application/cloudevents+json"},
            "body": cloud_event(event, self._source),
        }
        signed = {KEY_HEADER: hook.secret_env} if hook.secret_env else {}
        return NewTask(
            id=delivery_id(event, hook.name),
            type="http_request",
            queue=QUEUE,
            payload=payload,
            max_retries=hook.max_retries,
            backoff=BACKOFF,
            headers={HEADER: hook.name, "qw-event": str(event.id), **signed},
        )


def _read(documents: Mapping[str, JsonObject]) -> dict[str, Webhook]:
    hooks = {}
    for name, document in documents.items():
        try:
            hooks[name] = parse_webhook(name, document, lambda path: path)
        except Invalid as error:  # applied by a newer version of qw
            log.warning("invalid webhook definition", extra={"webhook": name, "error": str(error)})
    return hooks


def check_secrets(hooks: Sequence[Webhook], environ: Mapping[str, str]) -> None:
    """Raise Misconfigured, naming every rule whose secret is missing here or invalid."""
    faults = []
    for hook in sorted(hooks, key=lambda hook: hook.name):
        if hook.secret_env and (message := _secret_fault(_secret(hook.secret_env, environ))):
            faults.append(Fault(path=f"webhooks.{hook.name}.secret_env", message=message))
    if faults:
        raise Misconfigured(*faults)


def _secret_fault(secret: str | None) -> str | None:
    if secret is None:
        return "environment variable is not set"
    try:
        signature(secret, id="", timestamp=0, body=b"")
    except Invalid as error:
        return str(error)
    return None


def receiver(hooks: Mapping[str, Webhook], headers: Mapping[str, str], url: str) -> str | None:
    """Return *url* if a task with these *headers* and this URL delivers an event for one of *hooks*, else None.

    The operator's own files contain the URL, so the daemon may connect to it, whatever its egress policy says.
    """
    hook = hooks.get(headers.get(HEADER, ""))
    return url if hook is not None and hook.url == url else None


class Signer:
    """Computes the signature headers of a webhook's request from the headers of its task, its URL and its body.

    A task only names a rule. The key and the receiver are read from the rule itself: a daemon's own (*hooks*), or one
    applied to the database (*stored*). So the role that enqueues a task can choose neither key nor receiver.
    """

    def __init__(
        self,
        hooks: Mapping[str, Webhook],
        environ: Mapping[str, str],
        stored: Callable[[str], Awaitable[Webhook | None]],
    ) -> None:
        self._hooks = hooks
        self._environ = environ
        self._stored = stored

    async def __call__(self, headers: Mapping[str, str], url: str, body: bytes) -> dict[str, str]:
        """Return the headers. Raise Retry if the rule or its secret is unknown here: another daemon may have it."""
        name = headers.get(HEADER)
        if name is None:
            return {}
        id, timestamp = headers.get("qw-event", ""), int(clock.seconds())
        signed = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
        variable = headers.get(KEY_HEADER)
        if variable is not None:
            await self._check_rule(name, url, variable)
            secret = _secret(variable, self._environ)
            if secret is None:
                raise Retry(f"variable {variable} with the signing key of webhook {name} is not set on this daemon")
            signed["webhook-signature"] = signature(secret, id=id, timestamp=timestamp, body=body)
        return signed

    async def _check_rule(self, name: str, url: str, variable: str) -> None:
        for rule in (self._hooks.get(name), await self._stored(name)):
            if rule is not None and (rule.url, rule.secret_env) == (url, variable):
                return
        raise Retry(
            f"no webhook {name[:60]!r} with this URL and secret_env {variable[:60]!r} is declared on this daemon"
        )


def _secret(variable: str, environ: Mapping[str, str]) -> str | None:
    """Return the value of the variable, or the content of the file named by ``<variable>_FILE``."""
    if value := environ.get(variable):
        return value
    try:
        return Path(environ[f"{variable}_FILE"]).read_text().strip() or None
    except (KeyError, OSError, UnicodeDecodeError):
        return None
