from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue


@pytest.fixture
def daemons(url: str, tmp_path: Path) -> Iterator[Daemons]:
    """Starts daemons on the test's database. A traceback in the log of any fails the test."""
    made = Daemons(url, tmp_path)
    yield made
    assert list(made.end()) == []


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    """The test's database, as SQL users see it."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield Queue(connection, url)


@pytest.fixture
def private_daemons(private_url: str, tmp_path: Path) -> Iterator[Daemons]:
    """The same on a server that may be stopped and killed."""
    made = Daemons(private_url, tmp_path)
    yield made
    assert list(made.end()) == []
