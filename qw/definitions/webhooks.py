"""Receivers of events over HTTP, declared under ``webhooks:``."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from qw.core.errors import Fault, Invalid
from qw.core.event import LOUD, TYPES, select
from qw.core.event.webhook import Webhook
from qw.core.expression.evaluation import kind
from qw.core.parsing import mapping, names, refuse_unknown, string
from qw.core.task.payload import Json, JsonObject

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VARIABLE = re.compile(r"(?!QW_|PG|DB_|LD_|DATABASE_URL$)[A-Za-z_][A-Za-z0-9_]{0,127}")
_KEYS = ("url", "events", "types", "queues", "headers", "secret_env", "max_retries", "description")


def parse_webhook(name: str, document: Json, where: Callable[[str], str]) -> Webhook:
    """The webhook in *document*. Raise Invalid with every fault."""
    faults: list[Fault] = []
    webhook = _webhook(name, document, faults)
    if faults or webhook is None:
        raise Invalid(*(Fault(path=where(fault.path), message=fault.message) for fault in faults))
    return webhook


def _webhook(name: str, document: Json, faults: list[Fault]) -> Webhook | None:
    if not _NAME.fullmatch(name):
        message = f"{name[:60]!r} is not a name of a webhook: letters, digits and _ . - (at most 128)"
        faults.append(Fault(path="", message=message))
    if not isinstance(document, dict):
        faults.append(Fault(path="", message=f"a webhook must be an object with url:, not {kind(document)}"))
        return None
    refuse_unknown(document, _KEYS, "", "a webhook", faults)
    string(document, "description", "", faults)
    return Webhook(
        name=name,
        url=_url(document, faults),
        events=_events(document, faults),
        types=frozenset(names(document.get("types"), "types", faults)),
        queues=frozenset(names(document.get("queues"), "queues", faults)),
        headers=_headers(document, faults),
        secret_env=_secret_env(document, faults),
        max_retries=_max_retries(document.get("max_retries", 10), faults),
    )


def _secret_env(document: JsonObject, faults: list[Fault]) -> str | None:
    """Not a variable that qw or PostgreSQL reads: a receiver could test guesses at its value against signatures."""
    name = string(document, "secret_env", "", faults)
    if name and not _VARIABLE.fullmatch(name):
        message = f"{name[:60]!r} cannot be the variable for a webhook's secret"
        faults.append(Fault(path="secret_env", message=f"{message}; names must not begin with QW_, PG, DB_ or LD_"))
    return name or None


def _url(document: JsonObject, faults: list[Fault]) -> str:
    url = string(document, "url", "", faults)
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        faults.append(Fault(path="url", message="must be a URL that begins with http:// or https://"))
    return url


def _events(document: JsonObject, faults: list[Fault]) -> frozenset[str]:
    """Left out: everything but the loud ones."""
    patterns = names(document.get("events"), "events", faults)
    try:
        return select(patterns) if patterns else frozenset(TYPES) - LOUD
    except Invalid as error:
        faults += error.faults
        return frozenset()


def _headers(document: JsonObject, faults: list[Fault]) -> dict[str, str]:
    headers = mapping(document, "headers", "", faults)
    for name, value in headers.items():
        if not isinstance(value, str):
            faults.append(Fault(path=f"headers.{name[:60]}", message=f"must be text, not {kind(value)}"))
    return {name: value for name, value in headers.items() if isinstance(value, str)}


def _max_retries(value: Json, faults: list[Fault]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100:
        return value
    faults.append(Fault(path="max_retries", message="must be an integer from 1 to 100"))
    return 1
