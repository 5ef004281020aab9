"""A `Context` that keeps logs, progress and checkpoints in memory: handlers run for real, without a database."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from qw.core.ids import uuid7
from qw.core.task.handler_api import Context
from qw.core.task.payload import Json, JsonObject
from qw.core.task.printed import lines_of
from qw.handlers import Handlers
from qw.handlers.invoice import GivenNumber, Seller

T = TypeVar("T")
A = ParamSpec("A")


def new_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


@dataclass(kw_only=True)
class MemoryContext:
    """One task, for as many attempts as it is passed to: ``checkpoints`` outlive a failed call."""

    type: str = "noop"
    queue: str = "default"
    payload: JsonObject = field(default_factory=dict)
    task_id: UUID = field(default_factory=new_id)
    attempt: int = 1
    run_id: UUID | None = None
    step_id: str | None = None
    parent_id: UUID | None = None
    headers: dict[str, str] = field(default_factory=dict)
    state: Any = None
    logs: list[tuple[str, str]] = field(default_factory=list)
    printed: list[tuple[str, bytes]] = field(default_factory=list)
    fractions: list[tuple[float, str]] = field(default_factory=list)
    checkpoints: dict[str, Any] = field(default_factory=dict)
    sleep: Any = None  # what suspends a task needs a database
    wait_signal: Any = None
    call: Any = None
    gather: Any = None

    @property
    def idempotency_key(self) -> str:
        return str(self.task_id)

    async def log(self, message: str, *, level: str = "INFO") -> None:
        self.logs.append((level, message))

    async def output(self, data: bytes, *, level: str = "INFO") -> None:
        for message, raw in lines_of(data):
            self.logs.append((level, message))
            self.printed.append((level, f"{message}\n".encode() if raw is None else raw))

    async def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append((fraction, message))

    async def step(self, name: str, fn: Callable[A, Awaitable[T]], /, *args: A.args, **kwargs: A.kwargs) -> T:
        if name not in self.checkpoints:
            self.checkpoints[name] = await fn(*args, **kwargs)
        stored: T = self.checkpoints[name]
        return stored

    def connection(self) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError("there is no database behind a MemoryContext")


class MemoryNumbers:
    """Numbers from 1 on, all given at the same moment; without transactions."""

    def __init__(self, at: datetime) -> None:
        self._at = at
        self._given: dict[tuple[str, UUID], GivenNumber] = {}

    async def take(self, context: Context, seller: Seller) -> GivenNumber:
        return self._next("invoice", context.task_id)

    async def take_back(self, invoiced: UUID, by: UUID, seller: Seller) -> GivenNumber | None:
        return self._next("credit", invoiced) if ("invoice", invoiced) in self._given else None

    def _next(self, what: str, task: UUID) -> GivenNumber:
        number = GivenNumber(year=self._at.year, number=len(self._given) + 1, at=self._at)
        return self._given.setdefault((what, task), number)


async def run(app: Handlers, type: str, payload: JsonObject, context: MemoryContext | None = None) -> Any:
    """What the registered handler of *type* returns for *payload*, its arguments bound as a worker binds them."""
    handler = app.get(type)
    assert handler is not None, f"no handler for {type}"
    context = context or MemoryContext()
    context.type, context.payload = type, payload
    outcome = handler.function(**handler.arguments(context))
    result: Json = await outcome if hasattr(outcome, "__await__") else outcome
    return result


def files(directory: Path) -> list[Path]:
    """Every file below *directory*, links included."""
    return sorted(path for path in directory.rglob("*") if not path.is_dir())
