"""Reads a request's body, with a size limit and a deadline, and its query; validates both by their models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope

from qw.core.errors import Invalid, guess
from qw.core.task.payload import Json, parse
from qw.web.errors import Problem
from qw.web.fields import texts_of

MAX_BODY = 1024 * 1024  # bytes
MAX_PARAMETERS = 50
BODY_SECONDS = 20.0  # time limit for receiving a body

_CLOSE = {"Connection": "close"}  # the rest of the body is not read


class ClientGone(Exception):
    """The client disconnected before its body was complete."""


async def body_of(scope: Scope, receive: Receive, model: type[BaseModel], *, is_strict: bool) -> BaseModel:
    """Return the validated body. Raise Problem 400, 408, 413 or 415. A missing body is an empty object.

    *is_strict*: reject fields that the model does not know.
    """
    content = await _read(scope, receive)
    value: Json = _parsed(content) if content else {}
    if not isinstance(value, dict):
        raise Problem(400, "The body must be a JSON object")
    if is_strict:
        _refuse_unknown(model, value)
    return _checked(model, value)


def query_of(scope: Scope, model: type[BaseModel], *, is_strict: bool) -> BaseModel:
    """Return the validated query. Raise Problem for a repeated parameter, and with *is_strict* for an unknown one."""
    pairs = _parameters(scope["query_string"])
    value = dict(pairs)
    if repeated := [name for name in _known(model) if sum(name == other for other, _ in pairs) > 1]:
        raise Problem(400, [f"{name} must occur once" for name in repeated])
    if is_strict:
        _refuse_unknown(model, value)
    return _checked(model, value)


def _refuse_unknown(model: type[BaseModel], value: Mapping[str, Json]) -> None:
    """Raise Problem for names that *model* does not have: a misspelled name would be ignored silently."""
    known = _known(model)
    unknown = [name for name in value if name not in known]
    if unknown:
        texts = [f"{name[:60]} should not exist{guess(name[:60], known)}" for name in unknown[:10]]
        raise Problem(400, texts)


def _known(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _checked(model: type[BaseModel], value: dict[str, Json]) -> BaseModel:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem(400, texts_of(error)) from None


def _parameters(query: bytes) -> list[tuple[str, Json]]:
    if not query:
        return []
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise Problem(400, "The query string cannot be parsed") from None
    for name, value in pairs:
        if "\0" in value:
            raise Problem(400, [f"{name[:60]} contains NUL"])
    return [*pairs]


async def _read(scope: Scope, receive: Receive) -> bytes:
    length, media, encoding = _headers(scope)
    if length is not None and length > MAX_BODY:
        raise _too_large()
    if encoding not in (b"", b"identity"):
        raise Problem(415, "The body must not be encoded", headers=_CLOSE)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            content = await _gather(receive)
    except TimeoutError:
        raise Problem(408, f"The body did not arrive within {BODY_SECONDS:g} seconds", headers=_CLOSE) from None
    if content and media != b"application/json" and not media.endswith(b"+json"):
        raise Problem(415, "The body must be application/json")
    return content


def _headers(scope: Scope) -> tuple[int | None, bytes, bytes]:
    length, media, encoding = None, b"", b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value) if value.isdigit() else None
        elif name == b"content-type":
            media = value.partition(b";")[0].strip().lower()
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    return length, media, encoding


async def _gather(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise _too_large()
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large() -> Problem:
    return Problem(413, f"The body must not be larger than {MAX_BODY:,} bytes", headers=_CLOSE)


def _parsed(content: bytes) -> Json:
    try:
        return parse(content, path="body")
    except Invalid as error:
        if [fault.path for fault in error.faults] == ["body"]:
            raise Problem(400, error.faults[0].message) from None
        raise
