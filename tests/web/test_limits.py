"""Bodies, heads, ids, filters and patterns that were made to hurt."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from qw.web import server
from qw.web.request import MAX_BODY
from tests.web.live import Live, live, until

HEAD = b"POST /api/task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PROBES = ("/readyz", "/healthz", "/livez", "/api/health") * 5
LOOKS = """select query_start from pg_stat_activity
            where datname = current_database() and application_name = 'qw http' and query like '%qw.worker%'"""
LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def talk(live: Live, *parts: bytes, seconds: float = 10) -> bytes:
    """All that the server says to *parts* until it closes, or says nothing more for a moment."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=seconds) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return b"".join(_chunks(connection))


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    try:
        while chunk := connection.recv(65536):
            yield chunk
            connection.settimeout(0.5)
    except (TimeoutError, ConnectionResetError):
        return


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_a_payload_of_nearly_a_mebibyte_is_taken(server_alone: Live) -> None:
    text = "x" * (MAX_BODY - 100)

    id = server_alone.task(payload={"text": text})

    assert server_alone.get(f"/api/task/{id}")["payload"] == {"text": text}


def test_a_long_name_of_a_customer_is_found_like_any_other(server_alone: Live) -> None:
    name = "".join(hashlib.sha512(bytes([n])).hexdigest() for n in range(40))  # too long for an index, if whole
    id = server_alone.task(payload={"customerId": name})
    server_alone.task(payload={"customerId": name[:-1] + "-"})

    found = server_alone.get(f"/api/invoice/tasks/{name}")["tasks"]

    assert [task["id"] for task in found] == [id]


@pytest.mark.parametrize("size", [MAX_BODY, 10 * MAX_BODY, 100 * MAX_BODY])
def test_a_larger_body_is_refused_by_its_announced_length(server_shared: Live, size: int) -> None:
    answer = talk(server_shared, HEAD + b"Content-Length: %d\r\n\r\n" % (size + 1), b'{"type"')

    assert status_of(answer) == 413
    assert b"connection: close" in answer.lower()


def test_a_body_without_end_is_refused_while_it_is_read(server_shared: Live) -> None:
    chunk = b"%x\r\n%s\r\n" % (65536, b" " * 65536)

    answer = talk(server_shared, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 64)

    assert status_of(answer) in (413, 0)  # 0: the connection was reset before the answer could be read


def test_more_than_the_announced_length_is_another_request(server_shared: Live) -> None:
    body = b'{"type":"nope","payload":{}}'

    answer = talk(server_shared, HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body + b'{"more": 1}')

    assert status_of(answer) == 400
    assert b"Invalid HTTP request" in answer


def test_a_compressed_body_is_refused(server_shared: Live) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}

    answer = server_shared.api.post("/api/task", content=b"\x1f\x8b" + b"\0" * 100, headers=headers)

    assert answer.status_code == 415


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_is_not_called_json_is_refused(server_shared: Live, media: str) -> None:
    answer = server_shared.api.post("/api/task", content=b'{"type":"noop"}', headers={"Content-Type": media})

    assert answer.status_code == 415


@pytest.mark.parametrize("verb", ["retry", "cancel", "compensate"])
def test_a_body_is_checked_even_where_nothing_in_it_is_wanted(server_shared: Live, verb: str) -> None:
    path = f"/api/task/{server_shared.task()}/{verb}"
    json_type, form = "application/json", "application/x-www-form-urlencoded"
    cases = ((b"{bad", json_type), (b"a=b", form), (b"[]", json_type), (b" " * (MAX_BODY + 1), json_type))

    answers = [server_shared.api.post(path, content=body, headers={"Content-Type": media}) for body, media in cases]

    assert [answer.status_code for answer in answers] == [400, 415, 400, 413]
    assert server_shared.get("/api/task?type=compensation")["total"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"nix", b"\xff\xfe", b'{"type":"noop","payload":{"a":1,"a":2}}', b'{"type":"noop","payload":{"a":NaN}}',
        b'{"type":"noop","payload":{"a":1e400}}', b'{"type":"noop","payload":{"a":%s}}' % (b"9" * 5000),
        b'{"type":"noop","payload":{"a":"\\u0000"}}', b'{"type":"noop","payload":{"a":"\\ud800"}}',
        b'{"type":"noop","payload":' + b'{"a":' * 101 + b"1" + b"}" * 102, b"[" * 100_000,
    ],
)  # fmt: skip
def test_json_that_cannot_be_stored_is_a_400(server_shared: Live, body: bytes) -> None:
    before = server_shared.get("/api/task")["total"]

    answer = server_shared.api.post("/api/task", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400, answer.text
    assert server_shared.get("/api/task")["total"] == before


@pytest.mark.parametrize(
    "id", ["-1", "9223372036854775808", "abc", "1;DROP TABLE", "..%2f1", "%00", "{}", "\u0661" * 36, "a" * 5000]
)
@pytest.mark.parametrize("path", ["/api/task/{}", "/api/workflows/{}", "/api/runs/{}"])
def test_an_id_that_is_none_is_a_400_or_404(server_shared: Live, path: str, id: str) -> None:
    answer = server_shared.api.get(path.format(id))

    assert answer.status_code in (400, 404), answer.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=-1", 400), ("limit=0", 400), ("limit=1000000000", 200), ("limit=x", 400), ("limit=1e9", 400),
        ("limit=1.5", 400), ("offset=1000000000000", 200), ("cursor=forged", 400), (f"cursor={LAST}", 200),
        ("limit=" + "9" * 400, 200), ("&".join(f"a{n}=1" for n in range(100)), 400), ("type=%ff", 400),
        ("type=%00", 400),
    ],
)  # fmt: skip
def test_limits_and_cursors_are_checked(server_shared: Live, query: str, status: int) -> None:
    assert server_shared.api.get(f"/api/task?{query}").status_code == status


@pytest.mark.parametrize("path", ["/api/task", "/api/runs", "/api/workflows"])
@pytest.mark.parametrize("nasty", ["id;select pg_sleep(50)", "' OR 1=1 --", "1); drop table qw.task; --", "%' or '%"])
def test_filters_are_values_and_never_sql(server_alone: Live, path: str, nasty: str) -> None:
    live, started = server_alone, time.monotonic()
    live.task()

    for name in ("status", "type", "queue", "workflowId", "workflow", "order", "sort", "cursor", "limit", "since"):
        answer = live.api.get(path, params={name: nasty})
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200 and name in ("type", "queue"):
            assert not answer.json().get("tasks")

    assert live.get(f"/api/invoice/tasks/{nasty.replace('/', '')}")["tasks"] == []
    assert time.monotonic() - started < 40
    assert live.get("/api/task")["total"] == 1


@pytest.mark.parametrize("length", [5000, 50_000])
def test_no_pattern_of_ours_is_slow_for_long_text(server_shared: Live, length: int) -> None:
    live, text = server_shared, "a" * length + "!"
    started = time.process_time()  # of the server too, which is in this process
    bodies: list[dict[str, Any]] = [
        {"type": text, "payload": {}},
        {"type": "noop", "payload": {}, "queue": text},
        {"type": "noop", "payload": {}, "delay": "1" * length},
        {"type": "noop", "payload": {}, "scheduledAt": "2026-01-01T" + "0" * length},
        {"type": "http_request", "payload": {"url": text}},
        {"type": "data_processing", "payload": {"operation": text}},
    ]

    statuses = [live.api.post("/api/task", json=body).status_code for body in bodies]
    name = live.api.post("/api/workflows", json={"name": text, "definition": {}}).status_code
    headers = {"Prefer": "wait=" + "," * length, "Traceparent": "0" * length}
    taken = live.api.post("/api/task", json={"type": "noop", "payload": {}}, headers=headers).status_code

    assert (set(statuses), name, taken) == ({400}, 400, 201)
    assert time.process_time() - started < 3


def test_a_filter_by_error_is_text_and_no_pattern(server_shared: Live) -> None:
    body = {"filter": {"error": "(a+)+$"}, "dryRun": True}

    answer = server_shared.api.post("/api/task/retry", json=body)

    assert (answer.status_code, answer.json()["matched"]) == (201, 0)


def test_half_a_head_is_hung_up_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    with live(url) as started:
        idle = [socket.create_connection(("127.0.0.1", started.port), timeout=5) for _ in range(100)]
        for n, connection in enumerate(idle):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: loc" if n % 2 else b"")

        assert started.api.get("/livez").status_code == 200
        assert [connection.recv(100) for connection in idle] == [b""] * 100
        for connection in idle:
            connection.close()


def test_a_second_request_may_not_dawdle_either(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    with live(url) as started, socket.create_connection(("127.0.0.1", started.port), timeout=5) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: connection.recv(4096), lambda answer: answer.endswith(b"ok"))
        time.sleep(0.5)  # an idle connection is kept
        connection.sendall(b"GET /livez HT")

        assert connection.recv(100) == b""


def test_a_slow_body_is_a_408(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qw.web.request.BODY_SECONDS", 0.3)
    with live(url) as started:
        answer = talk(started, HEAD + b"Content-Length: 100\r\n\r\n", b'{"type":')

    assert status_of(answer) == 408
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("body", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"])
def test_a_body_that_breaks_off_is_no_error_of_the_server(
    url: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with live(url) as started, socket.create_connection(("127.0.0.1", started.port), timeout=5) as connection:
        connection.sendall(HEAD + body)
        assert started.api.get("/livez").status_code == 200
        connection.close()

    assert [record for record in caplog.records if record.name.startswith("qw.")] == []


def test_connections_beyond_the_cap_are_answered_503_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 20)
    with live(url) as started:
        opened = [socket.create_connection(("127.0.0.1", started.port), timeout=2) for _ in range(30)]
        answers = []
        for connection in opened:
            connection.settimeout(0.1)
            with suppress(TimeoutError):
                answers.append(connection.recv(1000))
        for connection in opened:
            connection.close()

        assert [answer.split(b"\r\n")[:2] for answer in answers] == [
            [b"HTTP/1.1 503 Service Unavailable", b"Retry-After: 1"]
        ] * 10
        until(lambda: started.api.get("/livez").status_code == 200)


@pytest.mark.parametrize(("files", "limit"), [(256, 16), (1024, 384), (4096, 1920), (10**6, 2000), (-1, 2000)])
def test_connections_leave_files_for_the_work(monkeypatch: pytest.MonkeyPatch, files: int, limit: int) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))

    assert server.connection_limit() == limit


@pytest.mark.parametrize("hosts", [(), ("localhost", "localhost"), ("localhost", "evil.example")])
def test_a_request_has_one_host(server_shared: Live, hosts: tuple[str, ...]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts).encode()

    assert status_of(talk(server_shared, b"GET /livez HTTP/1.1\r\n" + lines + b"\r\n")) == 400


@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Type", "Content-Encoding"])
def test_a_header_that_means_one_thing_occurs_once(server_shared: Live, name: str) -> None:
    value = {"Content-Type": "application/json"}.get(name, "identity")
    lines = f"{name}: {value}\r\n".encode() * (1 if name == "Content-Type" else 2)
    body = b'{"type": "noop", "payload": {}}'

    answer = talk(server_shared, HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body), body)

    assert status_of(answer) == 400
    assert f"one {name} header".encode() in answer


def test_a_trailer_is_no_header(server_shared: Live) -> None:
    body = b'{"type": "noop", "payload": {}}'
    chunks = b"%x\r\n%s\r\n0\r\nHost: evil.example\r\nIdempotency-Key: k\r\n\r\n" % (len(body), body)

    answers = [talk(server_shared, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunks) for _ in range(2)]

    assert [status_of(answer) for answer in answers] == [201, 201]
    assert answers[0].partition(b"taskId")[2] != answers[1].partition(b"taskId")[2]


@pytest.mark.parametrize("path", ["/api/runs?limit=1&limit=2", "/api/task?status=failed&status=completed&colour=red"])
def test_a_query_parameter_occurs_once(server_shared: Live, path: str) -> None:
    answer = server_shared.api.get(path)

    assert answer.status_code == 400
    assert answer.json()["message"][0].endswith("must occur once")


@pytest.mark.parametrize("name", ["dry_run", "dryrun", "DryRun"])
@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_a_misspelled_field_of_a_bulk_changes_nothing(server_alone: Live, verb: str, name: str) -> None:
    id = server_alone.task(queue="kept", delay="2h")

    answer = server_alone.api.post(f"/api/task/{verb}", json={"filter": {"queue": "kept"}, name: True})

    assert answer.status_code == 400
    assert answer.json()["message"] == [f"{name} should not exist; did you mean 'dryRun'?"]
    assert server_alone.get(f"/api/task/{id}")["status"] == "pending"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/runs?stauts=failed", "stauts should not exist; did you mean 'status'?"),
        ("/api/queues?name=a", "name should not exist"),
        ("/api/schedules?limt=1", "limt should not exist; did you mean 'limit'?"),
        ("/api/schedules?active=true", "active should not exist"),
        (f"/api/task/{LAST}/logs?aftr=1", "aftr should not exist; did you mean 'after'?"),
    ],
)
def test_a_misspelled_query_parameter_is_refused(server_shared: Live, path: str, text: str) -> None:
    answer = server_shared.api.get(path)

    assert (answer.status_code, answer.json()["message"]) == (400, [text])


def test_the_documented_routes_drop_what_they_do_not_know(server_shared: Live) -> None:
    api = server_shared.api

    assert api.get("/api/task?colour=red").status_code == 200
    assert api.post("/api/task", json={"type": "noop", "payload": {}, "colour": "red"}).status_code == 201
    assert api.get("/api/queue-manager/status?colour=red").status_code == 200
    assert api.get("/api/workflows?colour=red").status_code == 200


def test_a_head_without_end_is_hung_up_on(server_shared: Live) -> None:
    lines = (b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(500))

    answer = talk(server_shared, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", *lines)

    assert b" 200 " not in answer
    assert server_shared.api.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: 28\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 28\r\nContent-Length: 5\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"X-A: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"POST /api/task HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n",
        b"GET /api/task HTTP/1.1\r\nHost: local\0host\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
)
def test_a_request_that_two_servers_could_read_differently_is_refused(server_shared: Live, request_: bytes) -> None:
    answer = talk(server_shared, request_ + b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert status_of(answer) in (400, 415, 0)
    assert b"smuggled" not in answer


def test_a_flood_of_health_checks_asks_the_database_once_a_second(server_alone: Live, url: str) -> None:
    live = server_alone
    asked: set[object] = set()
    started = time.monotonic()

    with psycopg.connect(url, autocommit=True) as connection, ThreadPoolExecutor(4) as threads:
        for _ in range(30):
            statuses = set(threads.map(lambda path: live.api.get(path).status_code, PROBES))
            assert statuses == {200, 503}  # no worker lives here
            asked |= set(connection.execute(LOOKS).fetchall())

    assert len(asked) <= 1 + (time.monotonic() - started)  # of 600 probes


def test_a_gap_in_the_body_is_no_json(server_shared: Live) -> None:
    assert json.loads(server_shared.api.post("/api/task", content=b"").text)["statusCode"] == 400
