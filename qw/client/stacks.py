"""Reads what a running task is doing right now, by asking its worker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from qw.client.connections import Connections
from qw.core.errors import Conflict, NotFound
from qw.core.task.payload import JsonObject
from qw.store import stacks, tasks

LONGEST_SECONDS = 3.0  # that the worker has to answer
CHECK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class TaskStack:
    """``seen``: kind (coroutine, thread, process, command), frames with the innermost last, processes. ``is_live``:
    the worker answered just now; otherwise ``seen`` is its last answer, ``age`` seconds old.
    """

    at: datetime
    age: float
    is_live: bool
    seen: JsonObject


async def stack_of(db: Connections, id: UUID) -> TaskStack:
    """Return the stack of a task. Raise NotFound; Conflict if the task does not run and no stack was stored."""
    async with db.connection() as conn:
        stored = await tasks.get(conn, [id])
        if not stored:
            raise NotFound(f"task {id} does not exist")
        is_asked = await stacks.ask(conn, id) if not stored[0].status.is_final else False
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        async with db.connection() as conn:
            known = await stacks.find(conn, id)
        is_over = not is_asked or known is None or not known.is_asked
        if is_over or time.monotonic() > deadline:
            break
        await asyncio.sleep(CHECK_SECONDS)
    if known is None or known.at is None or known.age is None or known.answer is None:
        why = "its worker did not answer" if is_asked and not is_over else "only running tasks have a stack"
        raise Conflict(f"task {id} is {stored[0].status}; {why}")
    is_live = is_asked and is_over and known.age < LONGEST_SECONDS
    return TaskStack(at=known.at, age=known.age, is_live=is_live, seen=known.answer)


def stack_text(seen: JsonObject) -> str:
    """Format a stack as Python prints it, followed by one line for each process."""
    frames, processes = seen.get("frames"), seen.get("processes")
    lines = [
        f'  File "{frame["file"]}", line {frame["line"]}, in {frame["function"]}\n    {frame["code"]}'
        for frame in (frames if isinstance(frames, list) else [])
        if isinstance(frame, dict)
    ]
    lines += [
        f"{child['pid']:>8} {child['cpuPercent']:>6} % {_mebibytes(child['memoryBytes'])} MiB  {child['command']}"
        for child in (processes if isinstance(processes, list) else [])
        if isinstance(child, dict)
    ]
    return "\n".join(lines)


def _mebibytes(size: object) -> str:
    return f"{size / 1024**2:>8,.1f}" if isinstance(size, int) else ""
