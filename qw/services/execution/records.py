"""`logging` records that handlers emit: tagged with the task, and copied to the task's log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from qw.core.task.payload import clean_text
from qw.services.execution.context import LINE_LENGTH, LogLine
from qw.services.execution.in_flight import running_claim
from qw.services.execution.task_log import TaskLog

_FORMATTER = logging.Formatter()  # formats the message and any traceback
_OURS = "qw"


def with_task(record: logging.LogRecord) -> bool:
    """Add the task whose handler emitted the record, with any logger. A `logging` filter that passes every record."""
    holding = running_claim.get()
    if holding is not None and not hasattr(record, "task"):
        claim = holding.claim
        record.task, record.type, record.attempt = str(claim.id), claim.type, claim.attempt
        if trace := trace_id(claim.headers):
            record.trace_id = trace
    return True


def trace_id(headers: dict[str, str] | None) -> str | None:
    """Return the trace id of the W3C header ``traceparent``, in hexadecimal."""
    parts = (headers or {}).get("traceparent", "").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


def tag_all() -> None:
    """Add `with_task` to all existing `logging` handlers, including those that an application has set up."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if with_task not in handler.filters:
                handler.addFilter(with_task)


@contextmanager
def captured(log: TaskLog) -> Iterator[None]:
    """Copy the records of handlers to the logs of their tasks until the block ends."""
    handler = _Capture(log, asyncio.get_running_loop())
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


class _Capture(logging.Handler):
    """Safe from any thread. Records are dropped while the task log is full, so that logging cannot block a handler."""

    def __init__(self, log: TaskLog, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._log = log
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        holding = running_claim.get()
        if holding is None or holding.handler is None or record.name.partition(".")[0] == _OURS:
            return
        least = holding.handler.captures
        if least is None or record.levelno < least:
            return
        try:
            text = clean_text(_FORMATTER.format(record))
        except Exception:
            self.handleError(record)
            return
        claim = holding.claim
        lines: list[LogLine] = [
            (claim.id, claim.attempt, record.levelname, line[:LINE_LENGTH], None) for line in text.splitlines() or [""]
        ]
        holding.has_logged = True
        try:
            self._loop.call_soon_threadsafe(self._log.offer, lines)
        except RuntimeError:  # the loop is closed, and the log with it
            return
