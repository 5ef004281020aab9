"""The table's rows: a route says what it takes and gives; routing, validation and OpenAPI all come from that."""

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

# The API that qw took over, and what probes and scrapers ask, with parameters of their own.
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
    """A request that was let in, with what it brought checked."""

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
        """The variable parts of the path by name."""
        parts: dict[str, str] = self.scope["path_params"]
        return parts

    @property
    def shown(self) -> Shown:
        """How much of payloads and results the answer shows."""
        return Shown.HIDDEN if self.site.settings.hide_payloads else Shown.MASKED

    def shown_to_operators(self, *, reveal: bool) -> Shown:
        """The same; all of it for an operator who wants it to be *revealed*. Raise Problem 403 for others."""
        if not reveal:
            return self.shown
        if not self.caller.may(Role.OPERATOR):
            raise Problem(403, f"{self.caller.name} has the role {self.caller.role}; reveal requires operator")
        if self.site.settings.hide_payloads:
            raise Problem(403, "Payloads are hidden here (QW_HIDE_PAYLOADS)")
        return Shown.REVEALED

    async def note_reveal(self, noun: str, id: UUID) -> None:
        """Leave a trace of a look at what is masked."""
        self.shown_to_operators(reveal=True)
        await self.client.audit.note(f"{noun} reveal", str(id))

    def id(self, noun: str = "Task", name: str = "id") -> UUID:
        """The id in the path. Raise Problem when it is none."""
        text = self.path[name]
        if not text.strip():
            raise Problem(400, f"{noun} ID is required")
        try:
            return parse_id(text)
        except Invalid:
            raise Problem(400, f"{noun} ID {text[:60]!r} is not a UUID") from None

    def header(self, name: bytes) -> str | None:
        """The header *name* (in lower case)."""
        for key, value in self.scope["headers"]:
            if key == name:
                text: str = value.decode("latin-1")
                return text
        return None

    def recorded_name(self, name: str | None) -> str:
        """The name to record: that of the access token, which cannot be forged; without tokens *name*."""
        return self.caller.name if self.caller.is_known else name or self.caller.name

    @property
    def wait_seconds(self) -> float:
        """How many seconds the caller prefers to wait for the end of what it starts, at most two minutes."""
        asked = _WAIT.search(self.header(b"prefer") or "")
        return min(float(asked[1]), _LONGEST_WAIT) if asked else 0.0

    async def in_time(self, wait: Callable[[timedelta], Coroutine[Any, Any, T]]) -> T | None:
        """What *wait* returns within the time that the caller prefers to wait; None when it takes longer than that."""
        if self.wait_seconds <= 0:
            return None
        try:
            return await self.site.unless_closing(wait(timedelta(seconds=self.wait_seconds)))
        except TimedOut:
            return None


class Nothing(Form):
    """Of a body that nothing is wanted of."""


Handler = Callable[[Request[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """``out``: what the answer looks like; ``body`` and ``query``: what is taken. ``role`` None: open to everyone.

    ``also``: what it answers with other statuses that are no errors.

    ``errors`` are the statuses that it answers with beside those that every route has; ``verbose`` is what it answers
    instead of ``out``, as JSON, when asked to be verbose. ``keyed``: heeds ``Idempotency-Key``; ``waits``: also heeds
    ``Prefer: wait=N``; ``extra_seconds``: how much longer than others it may take anyway.
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
        """Whether names that it does not know are refused. Routes of the documented API drop them, as documented."""
        return not _DOCUMENTED.fullmatch(f"{self.method} {self.path}")

    @property
    def takes_body(self) -> bool:
        """Whether a body is read, and refused when it is too large or no JSON, even if nothing in it is wanted."""
        return self.method != "GET"

    @property
    def doc(self) -> str:
        """What it does, in one line or a few."""
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
