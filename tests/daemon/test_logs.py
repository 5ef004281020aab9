from __future__ import annotations

import logging
from typing import Any

import pytest

from qw.daemon.logs import _TextFormatter


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"async": 100, "thread": 32}, "async:100,thread:32"),
        (["mail", "io"], "mail,io"),
        ("none on tasks", "none on tasks"),
        (2, "2"),
    ],
)
def test_a_line_for_people_has_words_and_no_python(value: Any, words: str) -> None:
    record = logging.makeLogRecord({"msg": "daemon is ready", "levelname": "INFO", "shown": value})

    assert _TextFormatter().format(record).endswith(f" info    daemon is ready shown={words}")
