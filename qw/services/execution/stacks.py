"""Shows what a running task is doing: the stack of its coroutine or thread, or its processes.

A request is a row of qw.stack and a NOTIFY. The answer is written to that row, which is kept after the task has ended.
Nothing is collected without a request, so handlers run at full speed.
"""

from __future__ import annotations

import asyncio
import linecache
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from qw.core.task.masking import masked_text
from qw.core.task.payload import Json, JsonObject
from qw.handlers import HandlerKind
from qw.services.execution.in_flight import ClaimInFlight, InFlight
from qw.store import stacks
from qw.store.connection import ReconnectingConnection

CPU_SECONDS = 0.1  # period over which processor time is measured
MOST_FRAMES = 200
MOST_PROCESSES = 200
LONGEST_COMMAND = 500  # characters of a command line
_OURS = str(Path(__file__).parents[2])
_PROC = Path("/proc")


class Stacks:
    """The service that answers requests for stacks."""

    name = "stacks"

    def __init__(self, link: ReconnectingConnection, in_flight: InFlight, worker: Callable[[], int]) -> None:
        self._link = link
        self._in_flight = in_flight
        self._worker = worker
        self.bell = asyncio.Event()

    def max_wait(self) -> float:
        return 3600.0  # a NOTIFY sets the bell, or the poller if the NOTIFY was missed

    async def step(self) -> bool:
        async with self._link.use() as conn:
            asked = await stacks.asked(conn, self._worker())
        for id in asked:
            holding = self._in_flight.running_task(id)
            answer = await inspect_handler(holding) if holding else None
            async with self._link.use() as conn:
                await stacks.answer(conn, id, answer)
        return False


async def inspect_handler(holding: ClaimInFlight) -> JsonObject:
    """Return what the handler is doing: ``kind``, ``frames`` (innermost last) and ``processes``."""
    id = str(holding.claim.id)
    if holding.claim.type == "command" or holding.kind is HandlerKind.PROCESS:
        kind = "command" if holding.claim.type == "command" else "process"
        return {"kind": kind, "frames": [], "processes": await processes_of(id)}
    if holding.handler is not None and not holding.handler.runs_in_loop and not holding.handler.is_direct:
        return {"kind": "thread", "frames": _lines(list(_thread_frames(id))), "processes": []}
    coroutine = holding.task.get_coro() if holding.task else None
    return {"kind": "coroutine", "frames": _lines(list(_awaited_frames(coroutine))), "processes": []}


def _awaited_frames(coroutine: Any) -> Iterator[tuple[CodeType, int]]:
    """Yield the frames from the task's own coroutine to the innermost awaited one; asyncio lists only the first."""
    while coroutine is not None:
        for kind in ("cr", "gi", "ag"):
            frame: FrameType | None = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield frame.f_code, frame.f_lineno
                coroutine = getattr(coroutine, f"{kind}_await", None) or getattr(coroutine, f"{kind}_yieldfrom", None)
                break
        else:
            return


def _thread_frames(id: str) -> Iterator[tuple[CodeType, int]]:
    thread = next((each for each in threading.enumerate() if each.name.endswith(id)), None)
    frame = sys._current_frames().get(thread.ident) if thread and thread.ident else None
    found = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    yield from reversed(found)


def _lines(frames: list[tuple[CodeType, int]]) -> list[Json]:
    """Return the frames as JSON, without qw's own frames before the handler's."""
    first = next((n for n, (code, _) in enumerate(frames) if not _is_ours(code.co_filename)), 0)
    return [
        {
            "file": code.co_filename,
            "line": line,
            "function": code.co_qualname,
            "code": linecache.getline(code.co_filename, line).strip()[:200],
        }
        for code, line in frames[first:][-MOST_FRAMES:]
    ]


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, threading.__file__))


# -- processes


@dataclass(frozen=True)
class _Process:
    parent: int
    ticks: int  # of processor time
    pages: int


async def processes_of(id: str) -> list[Json]:
    """Return the processes with the task's id in their environment, and their descendants; [] without /proc."""
    before, began = await asyncio.to_thread(_processes), time.monotonic()
    await asyncio.sleep(CPU_SECONDS)
    now, seconds = await asyncio.to_thread(_processes), time.monotonic() - began
    marked = await asyncio.to_thread(_marked, id, now)
    page = os.sysconf("SC_PAGE_SIZE")
    return [
        {
            "pid": pid,
            "parent": now[pid].parent,
            "command": _command(pid),
            "cpuPercent": _percent(before.get(pid), now[pid], seconds),
            "memoryBytes": now[pid].pages * page,
        }
        for pid in sorted(marked)[:MOST_PROCESSES]
    ]  # fmt: skip


def _percent(before: _Process | None, now: _Process, seconds: float) -> float:
    ticks = max(now.ticks - before.ticks, 0) if before else 0
    return round(ticks / os.sysconf("SC_CLK_TCK") / seconds * 100, 1)


def _processes() -> dict[int, _Process]:
    """Return the descendants of this process, by pid."""
    found: dict[int, _Process] = {}
    if not _PROC.is_dir():
        return found
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # the process has ended
            found[int(folder.name)] = _Process(int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[21]))
    below = {os.getpid()}
    children = sorted(found)
    while more := {pid for pid in children if found[pid].parent in below and pid not in below}:
        below |= more
    return {pid: process for pid, process in found.items() if pid in below and pid != os.getpid()}


def _marked(id: str, processes: dict[int, _Process]) -> set[int]:
    mark = f"QW_TASK_ID={id}".encode()
    own = {pid for pid in processes if mark in _read(pid, "environ").split(b"\0")}
    while more := {pid for pid, each in processes.items() if each.parent in own and pid not in own}:
        own |= more
    return own


def _command(pid: int) -> str:
    words = _read(pid, "cmdline").decode(errors="replace").replace("\0", " ").strip()
    return masked_text(words)[:LONGEST_COMMAND]


def _read(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
