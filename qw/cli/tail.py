"""Follows the log of a task until the task is final, and converts its outcome to an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from qw.cli.output.records import say
from qw.cli.output.text import clock, printable_lines, span
from qw.core.task.masking import masked_error

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.task import Task
    from qw.store.tasks import LogLine
    from qw.store.workers import WorkerRow

FIRST_PAUSE, LONGEST_PAUSE = 0.03, 0.3  # seconds between two queries


@dataclass
class LogCursor:
    """The number of the last log line read, so that following can resume after an interruption."""

    line: int = 0


async def follow(client: Client, id: UUID, place: LogCursor, show: Callable[[LogLine], None]) -> Task:
    """Call *show* with each new line of the task's log until the task is final. Return the final task."""
    pause = FIRST_PAUSE
    while True:
        task = await client.tasks.get(id)  # before its log, so that a final task's last line is not missed
        pause = FIRST_PAUSE if await show_new(client, id, place, show) else min(pause * 1.3, LONGEST_PAUSE)
        if task.status.is_final:
            return task
        await asyncio.sleep(pause)


async def show_new(client: Client, id: UUID, place: LogCursor, show: Callable[[LogLine], None]) -> bool:
    """Call *show* with the log lines after *place*. Return False if there were none."""
    has_more = False
    while lines := await client.tasks.logs(id, after=place.line):
        for line in lines:
            show(line)
            place.line = line.id
        sys.stdout.flush()
        has_more = True
    return has_more


def print_output(line: LogLine) -> None:
    """Print the bytes that the command wrote, stderr to stderr. On a terminal, escape control sequences."""
    stream = sys.stdout if line.level == "INFO" else sys.stderr
    if stream is sys.stderr:
        sys.stdout.flush()  # keeps the order if stdout and stderr are the same file
    data = f"{line.message}\n".encode() if line.raw is None else line.raw
    if stream.isatty():
        ends = data.endswith((b"\n", b"\r"))
        stream.write(printable_lines(line.message) + ("\n" if ends else ""))
    else:
        stream.buffer.write(data)
    if stream is sys.stderr:
        stream.flush()


def print_line(line: LogLine) -> None:
    """Print a log line with its time, and its level unless it is the usual one."""
    level = "" if line.level == "INFO" else f"{line.level} "
    for text in printable_lines(line.message).split("\n"):
        print(f"{clock(line.at)}  {level}{text}")


def say_end(task: Task) -> None:
    """Print one line that says how the task ended."""
    took = "" if task.started_at is None or task.finished_at is None else span(task.finished_at - task.started_at)
    detail = f": {masked_error(task.error)}" if task.error else ""
    how = f" on attempt {task.attempt}, which took {took}" if task.attempt > 1 else f" after {took}"
    say(f"{task.id} {task.status}{how if took else ''}{detail}")


def exit_code(task: Task) -> int:
    """Return the command's exit code; for other tasks 0 if completed, otherwise 1."""
    from qw.core.task import Status

    if task.status is Status.COMPLETED:
        code = task.result.get("exitCode") if task.type == "command" and isinstance(task.result, dict) else 0
        return code if isinstance(code, int) else 0
    if task.type == "command" and task.status is Status.FAILED:
        from qw.core.task.command import exit_code_of

        return exit_code_of(task.error_kind) or 1
    return 1


async def say_if_nobody_takes(client: Client, type: str, queue: str) -> None:
    """Warn the waiting user if no live worker would take such a task."""
    if doubt := _doubt(await client.workers.all(), type, queue):
        say(f"qw: {doubt}")


def _doubt(workers: Sequence[WorkerRow], type: str, queue: str) -> str:
    """Return the warning; empty if a worker would take the task."""
    if not workers:
        return "no worker is running; the task waits for one: qw daemon"
    able = [worker for worker in workers if type in worker.types and (type != "command" or worker.slots.get("process"))]
    if not able and type == "command":
        return "no running worker accepts commands; the task waits for one: qw daemon --allow-commands"
    if not able:
        return f"no running worker serves the type {type!r}; the task waits for one: qw daemon --app MODULE:ATTR"
    if not any(not worker.queues or queue in worker.queues for worker in able):
        return f"no running worker serves the queue {queue!r}; the task waits for one: qw daemon --queues {queue}"
    return ""
