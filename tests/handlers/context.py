"""A `Context` that keeps logs, progress and checkpoints in memory: handlers run for real, without a database."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from qw.core.ids import uuid7
from qw.core.task.payload import Json, JsonObject
from qw.core.task.printed import lines_of
from qw.handlers import Handlers

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
