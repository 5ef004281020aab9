"""State shared by all requests: the client, the settings, caches and counters."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from typing import Any, TypeVar

from starlette.requests import HTTPConnection
from starlette.types import Scope

from qw.client import Client
from qw.client.history import RecentMinutes
from qw.client.lookups import Lookups
from qw.config import Role, Settings
from qw.core.errors import Invalid, QwError, Unreachable, guess
from qw.core.task.payload import JsonObject
from qw.store.events import RelayState
from qw.store.workers import WorkerRow
from qw.web.cache import Fresh
from qw.web.callers import ANYBODY, Authenticate, Caller, known_caller, nobody
from qw.web.errors import Problem
from qw.web.guesses import Guesses
from qw.web.memory import Trimmer
from qw.web.metrics import exposition

log = logging.getLogger(__name__)

CHECK_SECONDS = 3.0  # after which a database that does not respond counts as unavailable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Numbers of tasks from which the queue counts as unhealthy or overloaded."""

    unhealthy_failed: int = 50
    unhealthy_pending: int = 500
    overloaded_failed: int = 20
    overloaded_pending: int = 200


@dataclass(frozen=True, kw_only=True)
class ProcessHealth:
    """The health of the daemon in this process, if any. ``trouble``: what is wrong with it; ``unready``: why it would
    not start a task.
    """

    trouble: Callable[[], str | None] = lambda: None
    unready: Callable[[], str | None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """``seeder``: serve the routes that fill and empty the database. ``access_log``: log one line per request.

    ``read_only``: reject requests that change something.
    """

    seeder: bool = False
    access_log: bool = False
    read_only: bool = False
    process: ProcessHealth = ProcessHealth()
    thresholds: Thresholds = Thresholds()


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """The result of one check of the database. ``error``: why the database did not respond."""

    error: QwError | None
    workers: list[WorkerRow] = field(default_factory=list)
    relays: list[RelayState] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        return self.error is None


class Site:
    """The state shared by handlers. ``document`` returns the OpenAPI document; ``requests`` counts by method, route
    and status.

    ``readers`` counts the open event streams; ``closing`` is set when the server is about to stop.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        options: WebOptions,
        document: Callable[[], JsonObject],
        authenticate: Authenticate | None = None,
    ) -> None:
        self.client = client
        self.settings = settings
        self.options = options
        self.document = document
        self.authenticate = authenticate
        self.lookups = Lookups(client)
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.health = Fresh(self._look)
        self.guesses = Guesses()
        self.trimmer = Trimmer()
        self.readers = 0
        self.closing = asyncio.Event()
        self.newest_event = Fresh(lambda: client.events.last(), seconds=0.2)
        self.metrics = Fresh(lambda: exposition(client, settings, self.requests))
        recent = RecentMinutes()
        self.glance = Fresh(lambda: client.health.glance(recent))
        self._background: set[asyncio.Task[Any]] = set()
        self._types: frozenset[str] = frozenset()

    async def caller(self, scope: Scope, role: Role) -> Caller:
        """Return the caller. Raise Problem (401, 403, 429) if they are unknown or lack the rights of *role*."""
        caller = await self._any_caller(scope)
        if caller is None:
            raise nobody()
        if self.options.read_only and role is not Role.VIEWER:
            raise Problem(403, "This server is read-only")
        if not caller.may(role):
            who = "The token" if self.authenticate is None else "The user"
            raise Problem(403, f"{who} {caller.name} has the role {caller.role}; this route requires {role}")
        return caller

    async def caller_if_known(self, scope: Scope) -> Caller | None:
        """Return the caller; None if the request is not authenticated."""
        try:
            return await self._any_caller(scope)
        except Problem as problem:
            if problem.status != 401:
                raise
            return None

    async def _any_caller(self, scope: Scope) -> Caller | None:
        if self.authenticate is not None:
            found = self.authenticate(HTTPConnection(scope))
            caller = await found if isawaitable(found) else found
        elif self.settings.api_tokens:
            caller = known_caller(scope, self.settings.api_tokens, self.guesses)
        else:
            caller = ANYBODY
        return replace(caller, role=Role.VIEWER) if caller and self.options.read_only else caller

    async def check_type(self, type: str) -> None:
        """Raise Invalid for a type that no worker has ever registered. Queries the database only for types not seen
        before.
        """
        if type in self._types:
            return
        self._types = frozenset(await self.client.tasks.types())
        if type not in self._types:
            known = sorted(self._types)
            hint = guess(type[:60], known)
            raise Invalid(f"Unknown task type {type[:60]!r}; known are {', '.join(known)}{hint}")

    async def unless_closing(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of *work*; None if the server is about to stop first."""
        working, closing = asyncio.create_task(work), asyncio.create_task(self.closing.wait())
        try:
            await asyncio.wait((working, closing), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            closing.cancel()
            working.cancel()

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run *work* after the response was sent; its errors are logged."""
        task = asyncio.create_task(work, name="http background")
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", extra={"error": str(error)})

    async def _look(self) -> HealthCheck:
        """Check the database within `CHECK_SECONDS`. A check that takes longer is cancelled and cleaned up in the
        background.
        """
        looking = asyncio.create_task(self._looked())
        done, _ = await asyncio.wait({looking}, timeout=CHECK_SECONDS)
        if not done:
            looking.cancel()
            return HealthCheck(error=Unreachable("the database does not respond"))
        return looking.result()

    async def _looked(self) -> HealthCheck:
        try:
            workers, relays = await self.client.workers.all(), await self.client.events.relays()
            return HealthCheck(error=None, workers=workers, relays=relays)
        except QwError as error:
            return HealthCheck(error=error)
