"""Clients that ask and do not read, over real sockets with small buffers."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from qw.web import server
from qw.web.routes import events
from tests.web.live import Live, live, until

PAYLOAD = {"text": "x" * 900_000}
MANY_EVENTS = """
insert into qw.event (event, type, at, body)
select gen_random_uuid(), 'task.created', now(), jsonb_build_object('text', repeat('x', 2000))
  from generate_series(1, 20000) n
"""


@contextmanager
def asking(live: Live, path: str, *, window: int = 4096) -> Iterator[socket.socket]:
    """A connection with a small window that has asked for *path*."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", live.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        yield connection


def is_cut(connection: socket.socket) -> bool:
    """Whether the server has reset the connection; looks without reading."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


@pytest.fixture
def hasty(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(server, "READ_SECONDS", 0.3)
    with live(url) as started:
        yield started


def test_a_client_that_does_not_read_a_big_answer_is_cut(hasty: Live) -> None:
    for _ in range(10):
        hasty.task(payload=PAYLOAD)

    with asking(hasty, "/api/task") as connection:
        until(lambda: is_cut(connection))

    assert hasty.api.get("/livez").status_code == 200


def test_a_client_that_reads_slowly_gets_the_whole_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READ_SECONDS", 1.0)
    with live(url) as started:
        for _ in range(10):
            started.task(payload=PAYLOAD)
        asked, size = time.monotonic(), 0

        with asking(started, "/api/task", window=65536) as connection:
            while chunk := connection.recv(100_000, socket.MSG_WAITALL):
                size += len(chunk)
                time.sleep(0.04)  # this slow it is, over several looks

    assert size > 10 * 900_000
    assert time.monotonic() - asked > 3 * 1.0


def test_a_reader_of_events_that_does_not_read_gives_its_place_free(
    hasty: Live, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_READERS", 1)
    with psycopg.connect(url) as connection:
        connection.execute(MANY_EVENTS)

    with asking(hasty, "/api/events?after=0") as reader:
        until(lambda: _status(hasty) == 503)
        until(lambda: is_cut(reader))
        until(lambda: _status(hasty) == 200)


def _status(live: Live) -> int:
    with live.api.stream("GET", "/api/events") as answer:
        return answer.status_code


@pytest.mark.parametrize(
    ("count", "sizes", "next"),
    [(8, [100] * 8, 16), (150, [100] * 150, 200), (8, [60_000] * 8, 2), (2, [300_000] * 2, 1), (8, [], 16)],
)
def test_what_is_read_at_once_for_a_reader_is_bounded_by_its_size(count: int, sizes: list[int], next: int) -> None:
    assert events.next_count(count, sizes) == next


def memory() -> int:
    """Mebibytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 1024**2


def test_slow_readers_of_long_events_take_little_memory_and_give_it_back(url: str) -> None:
    with live(url) as started, psycopg.connect(url, autocommit=True) as conn:
        conn.execute("insert into qw.event (event, type, at, body) select gen_random_uuid(), 'task.created', now(),"
                     " jsonb_build_object('text', repeat('x', 60000)) from generate_series(1, 300)")  # fmt: skip
        before = memory()
        with ExitStack() as readers:
            for _ in range(40):
                readers.enter_context(asking(started, "/api/events?after=0"))
            time.sleep(2.5)  # they are read for until each of them stands
            beside = memory()
        until(lambda: memory() < before + 30)

    assert beside - before < 120
