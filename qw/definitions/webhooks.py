"""Webhooks: receivers of events over HTTP, declared under ``webhooks:``."""

from __future__ import annotations

import re
from collections.abc import Callable

from qw.core.errors import Fault, Invalid
from qw.core.event import LOUD, TYPES, select
from qw.core.event.webhook import Webhook
from qw.core.fields import NAMES, TEXT, URL, Field, Object, Type, by_name, integer, text_of
from qw.core.parsing import check_name, names, raise_at
from qw.core.task.payload import Json

_VARIABLE = re.compile(r"(?!QW_|PG|DB_|LD_|DATABASE_URL$)[A-Za-z_][A-Za-z0-9_]{0,127}")
_NOT_A_VARIABLE = "cannot be the variable for a webhook's secret; names must not begin with QW_, PG, DB_ or LD_"
"""Excludes variables of qw and PostgreSQL: a receiver could check guesses of their values against signatures."""


def _events(value: Json, path: str, faults: list[Fault]) -> frozenset[str] | None:
    patterns = names(value, path, faults)
    try:
        return select(patterns) if patterns else None
    except Invalid as error:
        faults += [Fault(path=path, message=fault.message) for fault in error.faults]
        return None


WEBHOOK = Object(
    "a webhook",
    {
        "url": Field(
            URL,
            "Address of the receiver",
            required="a webhook needs url:, which must be a URL that begins with http:// or https://",
        ),
        "events": Field(Type(_events, NAMES.schema), "Event types, such as task.*", default=frozenset(TYPES) - LOUD),
        "types": Field(NAMES, "Task types whose events are sent; default: all", default=()),
        "queues": Field(NAMES, "Queues whose tasks' events are sent; default: all", default=()),
        "headers": Field(by_name(TEXT), "Headers of the request", default={}),
        "secret_env": Field(
            text_of(_VARIABLE, _NOT_A_VARIABLE),
            "Environment variable of the daemons with the signing key; NAME_FILE may name a file instead",
        ),
        "max_retries": Field(integer(1, 100), "Maximum number of attempts, including the first", default=10),
        "description": Field(TEXT),
    },
    ref="webhook",
    must="a webhook must be an object with url:",
)


def parse_webhook(name: str, document: Json, where: Callable[[str], str]) -> Webhook:
    """Return the webhook in *document*. Raise Invalid with all faults."""
    faults: list[Fault] = []
    check_name(name, "webhook", faults)
    fields = WEBHOOK.read(document, "", faults)
    del fields["description"]
    raise_at(where, faults)
    return Webhook(name=name, **{**fields, "types": frozenset(fields["types"]), "queues": frozenset(fields["queues"])})
