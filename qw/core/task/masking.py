"""Hides credentials of requests and commands when a payload or a result is displayed.

Masked, at any depth, are values with a secret name (headers, variables, parameters of URLs, other keys) and user
information in URLs. The stored values are unchanged, because the handler needs them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from qw.core.task.payload import Json, JsonObject

MASK = "***"

_SECRET_NAME = re.compile(
    r"TOKEN(?!I)|PASSWORD|PASSWD|PASSPHRASE|\bPWD\b|SECRET(?!AR)|CREDENTIAL|AUTHORIZATION|COOKIE"
    r"|(?:API|AUTH|PRIVATE|ACCESS)[-_ ]?KEY",
    re.IGNORECASE,
)
_USER = re.compile(r"(?<=://)[^/?#\s@]+(?:@[^/?#\s@]+)*(?=@)")
_PARAMETER = re.compile(r"(?<=[?&])([^=&#?\s]{1,100})=([^&#\s\"'<>]+)")
_SIGNATURE = re.compile(r"(?:^|[-_])sig(?:nature)?$", re.IGNORECASE)  # of a presigned URL
_DEEPEST = 200  # levels; deeper values are neither searched nor shown


def masked(value: Json, *, depth: int = 0) -> Json:
    """Return *value*, a payload or a result, for display. Returns the same object if there is nothing to hide."""
    if isinstance(value, str):
        return masked_text(value)
    if not isinstance(value, dict | list) or not value:
        return value
    if depth > _DEEPEST:
        return MASK
    if isinstance(value, dict):
        return masked_object(value, depth=depth)
    shown = [masked(item, depth=depth + 1) for item in value]
    return shown if any(new is not old for new, old in zip(shown, value, strict=True)) else value


def masked_object(value: JsonObject, *, depth: int = 0) -> JsonObject:
    changed: JsonObject = {}
    for name, item in value.items():
        shown = _hidden(name, item) if is_secret_name(name) else masked(item, depth=depth + 1)
        if shown is not item:
            changed[name] = shown
    return {**value, **changed} if changed else value


def masked_text(text: str) -> str:
    """Return *text* without user, password and secret parameters in its URLs."""
    if "://" not in text:
        return text
    shown = _USER.sub(MASK, text) if "@" in text else text
    return _PARAMETER.sub(_shown_parameter, shown) if "?" in text else shown


def _shown_parameter(parameter: re.Match[str]) -> str:
    name = parameter[1]
    return f"{name}={MASK}" if is_secret_name(name) or _SIGNATURE.search(name) else parameter[0]


def masked_error(text: str | None) -> str | None:
    """Like `masked_text`, but an error may be None."""
    return masked_text(text) if text else text


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether the name of a header, variable or key suggests that it holds a secret."""
    return _SECRET_NAME.search(name) is not None


def _hidden(name: str, value: Json) -> Json:
    """Return the mask for the value of a secret name; a flag or a number of tokens is not hidden."""
    is_number = isinstance(value, int | float) and "token" in name.lower()
    return value if value is None or isinstance(value, bool) or is_number else MASK
