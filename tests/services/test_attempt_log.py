"""What the daemon's log says of attempts, and of who logs inside them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from qw.config import LogFormat, Settings
from qw.core.task import Backoff
from qw.daemon import logs
from qw.handlers import Handlers
from tests.given import new_task
from tests.services.workshop import workshop

app = Handlers()


@app.task(max_retries=2, backoff=Backoff(delay=timedelta(hours=1)))
async def stumble() -> None:
    raise ValueError("no such customer\nsecond line")


@app.task(max_retries=1)
async def fall() -> None:
    raise LookupError("gone")


@app.task()
def speak() -> None:
    logging.getLogger("app").warning("from a thread")


@app.task()
async def stand() -> None:
    logging.getLogger("app").warning("from the loop")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name, None) for name in ("task", "type", "queue", "attempt", "class", "error")}


@pytest.mark.parametrize(
    ("type", "level", "message", "name", "error"),
    [
        ("stumble", "WARNING", "attempt failed", "ValueError", "no such customer"),
        ("fall", "ERROR", "task failed", "LookupError", "gone"),
        ("stand", "DEBUG", "task completed", None, None),
    ],
)
async def test_each_end_is_one_line(
    type: str, level: str, message: str, name: str | None, error: str | None, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    new = new_task(type, queue="mail")
    with caplog.at_level(logging.DEBUG, logger="qw.services.execution.attempt_log"):
        async with workshop(url, app) as shop:
            await shop.run_one(new)

    (record,) = [record for record in caplog.records if record.name == "qw.services.execution.attempt_log"]
    assert (record.levelname, record.getMessage()) == (level, message)
    assert fields(record) == {
        "task": str(new.id),
        "type": type,
        "queue": "mail",
        "attempt": 1,
        "class": name,
        "error": error,
    }
    assert getattr(record, "seconds") >= 0  # noqa: B009


@pytest.fixture
def daemon_log() -> Iterator[io.StringIO]:
    """The log as a daemon writes it, one JSON object per line."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers = []
    logs.set_up(Settings(log_format=LogFormat.JSON))
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    own = handler.setStream(stream)
    assert own is not None
    own.close()
    yield stream
    root.handlers = before
    root.setLevel(level)


async def test_what_a_handler_logs_names_its_task(url: str, daemon_log: io.StringIO) -> None:
    async with workshop(url, app) as shop:
        tasks = [await shop.run_one(new_task(type)) for type in ("speak", "stand")]

    lines = [line for line in map(json.loads, daemon_log.getvalue().splitlines()) if line["logger"] == "app"]
    assert [(line["task"], line["type"], line["attempt"]) for line in lines] == [
        (str(task.id), task.type, 1) for task in tasks
    ]
