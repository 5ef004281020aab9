"""Errors as HTTP responses: one table from errors to statuses, one body format."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from typing_extensions import TypedDict

from qw.core.errors import (
    Conflict,
    Denied,
    Invalid,
    LacksRight,
    Misconfigured,
    NotFound,
    QwError,
    TimedOut,
    Unavailable,
)
from qw.core.task import JSON_KEYS
from qw.core.task.payload import Json, JsonObject

RETRY_AFTER = "2"  # seconds; most restarts of a database take no longer

STATUSES: Mapping[type[QwError], int] = {
    NotFound: 404,
    Conflict: 409,
    Misconfigured: 503,
    Invalid: 400,
    Unavailable: 503,
    LacksRight: 403,
    Denied: 503,
    TimedOut: 504,
    QwError: 400,  # a statement that PostgreSQL rejects permanently
}

_FIELDS = JSON_KEYS | {"idempotency_key": "Idempotency-Key"}  # fields whose names differ in HTTP


class ErrorBody(TypedDict):
    message: str | list[str]
    error: str
    statusCode: int
    type: str
    title: str
    status: int
    detail: str
    code: str


def phrase(status: int) -> str:
    """Return the reason phrase of a status, the same in all Python versions."""
    return {413: "Payload Too Large"}.get(status) or HTTPStatus(status).phrase


class Problem(Exception):
    """An error response. *message* is a list for validation errors, otherwise text."""

    def __init__(
        self,
        status: int,
        message: str | list[str],
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: JsonObject | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.code = code or phrase(status).lower().replace(" ", "_")
        self.headers = dict(headers or {})
        self.more = more or {}
        super().__init__(message)

    def body(self) -> JsonObject:
        """Return the documented members and those of RFC 9457."""
        title = phrase(self.status)
        message: Json = list(self.message) if isinstance(self.message, list) else self.message
        return {
            "message": message,
            "error": title,
            "statusCode": self.status,
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": "; ".join(self.message) if isinstance(self.message, list) else self.message,
            "code": self.code,
            **self.more,
        }


def problem_of(error: QwError) -> Problem:
    status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
    message: str | list[str] = str(error)
    if type(error) is Invalid and all(fault.path for fault in error.faults):
        message = [f"{_FIELDS.get(fault.path, fault.path)}: {fault.message}" for fault in error.faults]
    headers = {"Retry-After": RETRY_AFTER} if status == 503 else {}
    holder = error.holder if isinstance(error, Conflict) else None
    more: JsonObject = {"holder": str(holder)} if holder else {}
    return Problem(status, message, code=error.code, headers=headers, more=more)


def not_found(method: str, path: str) -> Problem:
    return Problem(404, f"Cannot {method} {path[:200]}")
