"""The rows of the route table. Routing, validation and the OpenAPI document are all derived from them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel
from starlette.types import Scope

from qw.client import Client
from qw.config import Role
from qw.core.errors import Invalid, TimedOut
from qw.core.ids import parse_id
from qw.web.callers import Caller
from qw.web.errors import Problem
from qw.web.fields import Form
from qw.web.shown import Shown
from qw.web.site import Site

# Routes with a fixed specification, and those of probes and scrapers, which add parameters of their own.
_DOCUMENTED = re.compile(
    r"(GET|POST) /api/tasks?(/\{id\})?|POST /api/tasks?/\{id\}/(retry|cancel|compensate)|.* /api/queue-manager/.*"
    r"|.* /api/scheduler/.*|.* /api/invoice/.*|.* /api/seeder/.*|GET /api/workflows(/active)?|POST /api/workflows"
    r"|.* /api/workflows/\{id\}(/(activate|deactivate|start|status|with-tasks))?|GET /(?!api/).*|GET /api/health"
)
_WAIT = re.compile(r"(?:^|[,;])\s*wait=(\d{1,6})\s*(?:$|[,;])")
_LONGEST_WAIT = 120.0  # seconds

Body = TypeVar("Body")
Query = TypeVar("Query")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request(Generic[Body, Query]):
    """An authenticated request with its validated body and query."""

    site: Site
    scope: Scope
    body: Body
    query: Query
    caller: Caller

    @property
    def client(self) -> Client:
        return self.site.client

    @property
    def path(self) -> Mapping[str, str]:
        """Return the variable parts of the path by name."""
        parts: dict[str, str] = self.scope["path_params"]
        return parts

    @property
    def shown(self) -> Shown:
        """Return how much of payloads and results the response shows."""
        return Shown.HIDDEN if self.site.settings.hide_payloads else Shown.MASKED

    def shown_to_operators(self, *, reveal: bool) -> Shown:
        """Return `shown`; with *reveal*, everything. Raise Problem 403 if the caller is no operator or payloads are
        hidden.
        """
        if not reveal:
            return self.shown
        if not self.caller.may(Role.OPERATOR):
            raise Problem(403, f"{self.caller.name} has the role {self.caller.role}; reveal requires operator")
        if self.site.settings.hide_payloads:
            raise Problem(403, "Payloads are hidden here (QW_HIDE_PAYLOADS)")
        return Shown.REVEALED

    async def note_reveal(self, noun: str, id: UUID) -> None:
        """Record in the audit that masked values were revealed."""
        self.shown_to_operators(reveal=True)
        await self.client.audit.note(f"{noun} reveal", str(id))

    def id(self, noun: str = "Task", name: str = "id") -> UUID:
        """Return the id in the path. Raise Problem if it is not a UUID."""
        text = self.path[name]
        if not text.strip():
            raise Problem(400, f"{noun} ID is required")
        try:
            return parse_id(text)
        except Invalid:
            raise Problem(400, f"{noun} ID {text[:60]!r} is not a UUID") from None

    def header(self, name: bytes) -> str | None:
        """Return the header *name* (in lower case)."""
        for key, value in self.scope["headers"]:
            if key == name:
                text: str = value.decode("latin-1")
                return text
        return None

    def recorded_name(self, name: str | None) -> str:
        """Return the name to record: that of the access token, which cannot be forged; without tokens, *name*."""
        return self.caller.name if self.caller.is_known else name or self.caller.name

    @property
    def wait_seconds(self) -> float:
        """The number of seconds for which the caller asks to wait for a result (``Prefer: wait=N``), at most 120."""
        asked = _WAIT.search(self.header(b"prefer") or "")
        return min(float(asked[1]), _LONGEST_WAIT) if asked else 0.0

    async def in_time(self, wait: Callable[[timedelta], Coroutine[Any, Any, T]]) -> T | None:
        """Return the result of *wait*, or None if it takes longer than `wait_seconds`."""
        if self.wait_seconds <= 0:
            return None
        try:
            return await self.site.unless_closing(wait(timedelta(seconds=self.wait_seconds)))
        except TimedOut:
            return None


class Nothing(Form):
    """The model of a body without fields."""


Handler = Callable[[Request[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route. ``out``: type of the response; ``body`` and ``query``: models of the input. ``role`` None: no
    authentication.

    ``also``: response types of other successful statuses. ``errors``: error statuses besides those of every route.
    ``verbose``: response type, as JSON, of a verbose request. ``keyed``: accepts ``Idempotency-Key``. ``waits``:
    accepts ``Prefer: wait=N``. ``extra_seconds``: time allowed in addition to the usual limit.
    """

    method: str
    path: str
    handler: Handler
    out: Any
    status: int
    role: Role | None
    body: type[BaseModel] = Nothing
    query: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    media: str = "application/json"
    verbose: Any = None
    also: Mapping[int, Any] = field(default_factory=dict, hash=False)
    keyed: bool = False
    waits: bool = False
    extra_seconds: float = 0.0

    @property
    def is_strict(self) -> bool:
        """Whether unknown names are rejected. Routes of the documented API ignore them, as documented."""
        return not _DOCUMENTED.fullmatch(f"{self.method} {self.path}")

    @property
    def takes_body(self) -> bool:
        """Whether a body is read, and rejected if it is too large or no JSON, even if the route has no body fields."""
        return self.method != "GET"

    @property
    def doc(self) -> str:
        """The description of the route: its handler's docstring."""
        return (self.handler.__doc__ or "").strip()


def get(path: str, handler: Handler, out: Any, *, role: Role | None = Role.VIEWER, **more: Any) -> Route:
    return Route(method="GET", path=path, handler=handler, out=out, status=200, role=role, **more)


def post(
    path: str, handler: Handler, out: Any, *, status: int = 201, role: Role | None = Role.OPERATOR, **more: Any
) -> Route:
    return Route(method="POST", path=path, handler=handler, out=out, status=status, role=role, **more)


def put(path: str, handler: Handler, out: Any, *, role: Role = Role.OPERATOR, **more: Any) -> Route:
    return Route(method="PUT", path=path, handler=handler, out=out, status=200, role=role, **more)


def delete(path: str, handler: Handler, out: Any, *, role: Role = Role.OPERATOR, **more: Any) -> Route:
    return Route(method="DELETE", path=path, handler=handler, out=out, status=200, role=role, **more)
