"""The stream of events."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from qw.web.routes import events
from tests.web.live import Live, live, until

TASK = {"type": "noop", "payload": {}}


@pytest.fixture
def busy(url: str) -> Iterator[Live]:
    with live(url, {"QW_EVENT_LOG": "1d"}, daemon=True) as started:
        yield started


def read(live: Live, count: int, path: str = "/api/events", **headers: str) -> list[dict[str, Any]]:
    """The first *count* events of a stream."""
    found: list[dict[str, Any]] = []
    with live.api.stream("GET", path, headers=headers, timeout=15) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        fields: dict[str, Any] = {}
        for line in answer.iter_lines():
            if line.startswith(("id: ", "event: ", "data: ")):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and "data" in fields:
                found.append({**fields, "data": json.loads(fields["data"])})
                fields = {}
                if len(found) == count:
                    break
    return found


def kept(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("select count(*) from qw.event").fetchone()
        return row[0] if row else 0


def test_a_stream_goes_on_after_the_last_event_that_was_seen(busy: Live, url: str) -> None:
    id = busy.final(busy.task())["id"]
    until(lambda: kept(url) >= 2)

    all_of_them = read(busy, 2, "/api/events?after=0")
    later = read(busy, 1, **{"Last-Event-ID": all_of_them[0]["id"]})

    assert [event["event"] for event in all_of_them] == ["task.created", "task.completed"]
    assert later == all_of_them[1:]
    body = later[0]["data"]
    assert (body["specversion"], body["subject"]) == ("1.0", id)


def test_a_stream_can_be_of_one_task_and_of_some_types(busy: Live, url: str) -> None:
    busy.final(busy.task())
    id = busy.final(busy.task())["id"]
    until(lambda: kept(url) >= 4)

    (event,) = read(busy, 1, f"/api/events?after=0&taskId={id}&type=task.comp*")

    assert (event["event"], event["data"]["subject"]) == ("task.completed", id)


@pytest.mark.parametrize("place", ["x", "-1", "1e9", "9" * 40])
def test_a_place_that_is_none_is_a_400(server_shared: Live, place: str) -> None:
    assert server_shared.api.get("/api/events", headers={"Last-Event-ID": place}).status_code == 400


def test_readers_beyond_the_cap_come_back_later(server_alone: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_READERS", 1)
    with server_alone.api.stream("GET", "/api/events") as first:
        chunks = first.iter_raw()  # closed with its last reference
        assert next(chunks).startswith(b"retry:")

        assert _status(server_alone) == 503
    until(lambda: _status(server_alone) == 200)


def test_a_server_that_stops_waits_for_no_reader(url: str) -> None:
    with live(url) as started:
        api = started.api
        reader = api.send(api.build_request("GET", "/api/events"), stream=True)
        chunks = reader.iter_raw()
        next(chunks)

        def wait() -> None:  # by a client of its own: that of the server is closed once the server has stopped
            answer = httpx.post(f"{started.base}/api/task", json=TASK, headers={"Prefer": "wait=60"}, timeout=60)
            answers.append(answer.json())

        waiter = threading.Thread(target=wait)
        answers: list[Any] = []
        waiter.start()
        until(lambda: started.get("/api/task")["total"] == 1)
        asked = time.monotonic()
    waiter.join()

    assert time.monotonic() - asked < 30
    assert [answer["status"] for answer in answers] == ["pending"]


def test_a_head_of_the_stream_ends_and_leaves_the_connection_usable(server_shared: Live) -> None:
    with socket.create_connection(("127.0.0.1", server_shared.port), timeout=10) as connection:
        connection.sendall(b"HEAD /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert b"text/event-stream" in answers
    assert answers.endswith(b"ok")


def _status(live: Live) -> int:
    with live.api.stream("GET", "/api/events") as answer:
        return answer.status_code
