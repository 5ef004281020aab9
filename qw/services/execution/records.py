"""Records of the standard `logging` module that are made inside a handler: tagged, and copied to the task's log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from qw.core.task.payload import clean_text
from qw.services.execution.context import LINE_LENGTH, LogLine
from qw.services.execution.in_flight import running_claim
from qw.services.execution.task_log import TaskLog

_FORMATTER = logging.Formatter()  # the message, and the traceback if there is one
_OURS = "qw"


def with_task(record: logging.LogRecord) -> bool:
    """A filter that lets all pass: adds the task whose handler made the record, whatever logger it used."""
    holding = running_claim.get()
    if holding is not None and not hasattr(record, "task"):
        claim = holding.claim
        record.task, record.type, record.attempt = str(claim.id), claim.type, claim.attempt
        if trace := trace_id(claim.headers):
            record.trace_id = trace
    return True


def trace_id(headers: dict[str, str] | None) -> str | None:
    """The trace that W3C's ``traceparent`` names, in hexadecimal."""
    parts = (headers or {}).get("traceparent", "").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


def tag_all() -> None:
    """Add `with_task` to all handlers of `logging` there are, such as those that an application has set up."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if with_task not in handler.filters:
                handler.addFilter(with_task)


@contextmanager
def captured(log: TaskLog) -> Iterator[None]:
    """Copy the records that handlers make to the logs of their tasks, as long as this is open."""
    handler = _Capture(log, asyncio.get_running_loop())
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


class _Capture(logging.Handler):
    """May be called in any thread. What the log has no room for is dropped: a line must not stop a handler."""

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
        except RuntimeError:  # the loop is closed: nobody waits for the log any more
            return
