"""What of a payload or a result is not shown: credentials that a request or a command was given.

Masked are headers that carry credentials, variables of a command whose names say that they are secret, and user
information in URLs. The stored values stay whole: the handler needs them.
"""

from __future__ import annotations

import re

from qw.core.task.payload import Json, JsonObject

MASK = "***"

_HEADERS = frozenset({"x-api-key", "api-key", "x-auth-key"})  # what the next does not find
_SECRET_NAME = re.compile(
    r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|AUTHORIZATION|COOKIE|PRIVATE_?KEY", re.IGNORECASE
)
_USER = re.compile(r"(?<=://)[^/?#\s@]+(?:@[^/?#\s@]+)*(?=@)")


def masked(value: Json) -> Json:
    """*value*, a payload or a result, as it may be shown. The same object where there is nothing to hide."""
    if isinstance(value, dict):
        return masked_object(value)
    return masked_text(value) if isinstance(value, str) else value


def masked_object(value: JsonObject) -> JsonObject:
    changed: JsonObject = {}
    for name, item in value.items():
        if isinstance(item, str):
            shown: Json = masked_text(item)
        elif isinstance(item, dict) and name in ("headers", "env"):
            shown = _masked_names(item)
        else:
            continue
        if shown is not item:
            changed[name] = shown
    return {**value, **changed} if changed else value


def masked_text(text: str) -> str:
    """*text* without user and password of the URLs in it."""
    return _USER.sub(MASK, text) if "@" in text and "://" in text else text


def is_secret_name(name: str) -> bool:
    """Whether a header or variable of this name carries a secret, as far as its name tells."""
    return name.lower() in _HEADERS or _SECRET_NAME.search(name) is not None


def _masked_names(values: JsonObject) -> JsonObject:
    shown = {
        name: MASK if is_secret_name(name) else masked_text(item) if isinstance(item, str) else item
        for name, item in values.items()
    }
    return values if shown == values else shown
