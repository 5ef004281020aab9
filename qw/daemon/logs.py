"""Log lines for people or programs, with constant messages and variable fields, never with payloads."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from qw.config import LogFormat, Settings
from qw.services.execution.records import with_task

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160)) if code not in (9, 10)}


def set_up(settings: Settings) -> None:
    """Log to standard error in the configured format."""
    handler = _Handler(_own_stream())
    handler.addFilter(with_task)
    handler.setFormatter(_JsonLines() if _form(settings) is LogFormat.JSON else _TextFormatter())
    logging.basicConfig(level=settings.log_level.value.upper(), handlers=[handler], force=True)
    for noisy in ("psycopg.pool", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def move_to(file: Path) -> None:
    """Write all lines to *file* from now on, and only errors to standard error. Raise OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, mode="w", encoding="utf-8", errors="backslashreplace")
    handler.addFilter(with_task)
    handler.setFormatter(_TextFormatter())
    root = logging.getLogger()
    for shown in root.handlers:
        shown.setLevel(logging.ERROR)
    root.addHandler(handler)
    root.setLevel(logging.INFO)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore errors of writing. The default would raise them in the code that logs, if standard error is
        closed.
        """


def _own_stream() -> TextIO:
    """Standard error under a descriptor of our own, because a handler may close or replace that of the process."""
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    except (AttributeError, OSError, ValueError):  # there is none
        return sys.stderr


def _form(settings: Settings) -> LogFormat:
    return settings.log_format or (LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _words(value: object) -> str:
    """Return *value* as words: ``async:100,thread:32`` for a mapping, ``a,b`` for a list."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{below}" for key, below in value.items())
    return ",".join(map(str, value)) if isinstance(value, (list, tuple, set, frozenset)) else str(value)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = " ".join(f"{key}={_words(value)}" for key, value in _fields(record).items())
        text = f"{at} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip().replace("\n", " ")
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text.translate(_ESCAPES)
