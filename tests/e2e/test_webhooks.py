"""Webhooks from a file to a server that checks their signatures."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from qw.core.event.webhook import signature
from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue

SECRET = "a secret of the operator"


class Receiver(ThreadingHTTPServer):
    """Keeps what it got; fails the first request."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Request)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Request(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({name.lower(): text for name, text in self.headers.items()}, body))
        self.send_response(500 if len(self.server.got) == 1 else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_is_signed_retried_and_told_nothing_of_itself(
    url: str, queue: Queue, daemons: Daemons, receiver: Receiver, tmp_path: Path
) -> None:
    file = tmp_path / "workflows.yaml"
    file.write_text(
        f"""
version: 1
webhooks:
  billing:
    url: {receiver.url}
    events: [task.completed]
    types: [noop]
    secret_env: BILLING_SECRET
"""
    )
    daemons("--workflows", str(file), BILLING_SECRET=SECRET).ready()

    task = queue.put_one("noop")
    queue.put_one("data_processing", operation="noop")
    wait_until(lambda: queue.value("select count(*) from qw.tasks where queue = 'webhooks' and retries > 0"))
    delivery = queue.value("select id from qw.task where queue = 'webhooks'")
    queue.value("select qw.retry(%s)", delivery)
    queue.wait_for([delivery], "completed")

    assert queue.value("select count(*) from qw.task where queue = 'webhooks'") == 1
    assert len(receiver.got) == 2
    for headers, body in receiver.got:
        document = json.loads(body)
        assert document["type"] == "qw.task.completed.v1"
        assert document["subject"] == str(task)
        assert headers["webhook-id"] == document["id"]
        timestamp = int(headers["webhook-timestamp"])
        assert headers["webhook-signature"] == signature(SECRET, id=document["id"], timestamp=timestamp, body=body)


def test_a_webhook_without_its_secret_stops_the_start(url: str, daemons: Daemons, tmp_path: Path) -> None:
    file = tmp_path / "workflows.yaml"
    file.write_text("version: 1\nwebhooks:\n  billing: {url: 'http://x', secret_env: BILLING_SECRET}\n")

    daemon = daemons("--workflows", str(file))

    assert daemon.exit_code() == 78
    assert "webhooks.billing.secret_env: environment variable is not set" in daemon.log_file.read_text()
