"""Workers in other languages: the examples, run as they stand, on a broker of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.brokers_services import found, missing, private
from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue
from tests.processes import free_port
from tests.proxy import Proxy

FOLDER = Path(__file__).parents[2] / "examples" / "remote"


@pytest.fixture(scope="session")
def node_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where node finds what the examples require: with it, or installed for this run.

    Without npm or its registry these tests are skipped, in CI too: the examples are all that needs them.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm: the workers in Node were not tried")
    wanted = "require('nats'); require('amqplib')"
    if subprocess.run(["node", "-e", wanted], capture_output=True, cwd=FOLDER).returncode == 0:
        return os.environ.get("NODE_PATH", "")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "nats@2", "amqplib@0"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm install took more than a minute: the workers in Node were not tried")
    if done.returncode != 0:
        pytest.skip(f"npm install failed, the workers in Node were not tried: {done.stderr[-300:]}")
    return str(folder / "node_modules")


@contextmanager
def worker(directory: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    log = directory / "worker.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=FOLDER, stdout=file, stderr=file, env={**os.environ, **environment})
    try:
        wait_until(lambda: "ready" in log.read_text() or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait(60)


def expect_shouting(queue: Queue) -> None:
    """Good tasks come back in capitals, bad ones are final at once."""
    good = [queue.put_one("shout", text=f"word {n}") for n in range(5)]
    bad = queue.put_one("shout", text=7)

    queue.wait_for(good, "completed", 60)
    queue.wait_for([bad], "failed", 60)

    assert queue.field(good[3], "result") == {"text": "WORD 3", "attempt": 1}
    assert queue.field(bad, "error") == "text must be a string"
    assert queue.field(bad, "attempt") == 1


def test_a_worker_in_bash_serves_a_type_over_redis(queue: Queue, daemons: Daemons, tmp_path: Path) -> None:
    for program in ("redis-cli", "jq"):
        if shutil.which(program) is None:
            missing(program)
    with private("redis") as server, worker(tmp_path, "./worker-redis.sh", REDIS_URL=server.url):
        daemons("--workflows", str(FOLDER / "workflows.yaml"), QW_BROKER_URL=server.url).ready()

        expect_shouting(queue)


def test_a_worker_in_bash_serves_a_type_over_http(queue: Queue, daemons: Daemons, tmp_path: Path) -> None:
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            missing(program)
    port = free_port()

    def with_management(directory: Path) -> None:
        (directory / "plugins").write_text("[rabbitmq_management].\n")
        with (directory / "rabbitmq.conf").open("a") as file:
            file.write(f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n")

    api = f"http://guest:guest@127.0.0.1:{port}"
    with (
        private("rabbitmq", configure=with_management) as server,
        worker(tmp_path, "./worker-curl.sh", RABBITMQ_API=api),
    ):
        daemons("--workflows", str(FOLDER / "workflows.yaml"), QW_BROKER_URL=server.url).ready()

        expect_shouting(queue)


def test_a_worker_in_node_serves_a_type_over_nats(
    queue: Queue, daemons: Daemons, tmp_path: Path, node_path: str
) -> None:
    with (
        private("nats") as server,
        worker(tmp_path, "node", "worker-nats.cjs", NATS_SERVERS=server.url, NODE_PATH=node_path),
    ):
        daemons("--workflows", str(FOLDER / "workflows.yaml"), QW_BROKER_URL=server.url).ready()

        expect_shouting(queue)


def test_a_worker_in_node_serves_a_type_over_rabbitmq(
    queue: Queue, daemons: Daemons, tmp_path: Path, node_path: str
) -> None:
    with (
        found("rabbitmq") as url,
        worker(tmp_path, "node", "worker-amqp.cjs", RABBITMQ_URL=url, NODE_PATH=node_path),
    ):
        daemons("--workflows", str(FOLDER / "workflows.yaml"), QW_BROKER_URL=url, QW_EVENTS="worker.lost").ready()

        expect_shouting(queue)


def test_a_task_whose_remote_worker_never_answers_is_timed_out(queue: Queue, daemons: Daemons, tmp_path: Path) -> None:
    file = tmp_path / "workflows.yaml"
    file.write_text("version: 1\nremote:\n  shout: {timeout: 300ms, max_retries: 1}\n")
    with private("redis") as server:
        daemons("--workflows", str(file), QW_BROKER_URL=server.url).ready()
        task = queue.put_one("shout", text="anybody?")

        queue.wait_for([task], "failed")

        left = subprocess.run(["redis-cli", "-u", server.url, "llen", "qw.remote.shout"], capture_output=True)
    assert "timed out" in queue.field(task, "error")
    assert left.stdout == b"0\n"


def test_a_killed_daemon_dispatches_again_and_the_late_answer_counts_for_nothing(
    queue: Queue, daemons: Daemons, tmp_path: Path
) -> None:
    file = FOLDER / "workflows.yaml"
    with private("redis") as server:
        first = daemons("--workflows", str(file), QW_BROKER_URL=server.url).ready()
        task = queue.put_one("shout", text="hello")
        queue.wait_for([task], "processing")
        first.kill()
        daemons("--workflows", str(file), QW_BROKER_URL=server.url).ready()
        queue.wait_for([task], "processing")
        wait_until(lambda: queue.field(task, "attempt") == 2)
        with worker(tmp_path, "./worker-redis.sh", REDIS_URL=server.url):
            queue.wait_for([task], "completed")

    assert queue.field(task, "result") == {"text": "HELLO", "attempt": 2}


class _Worker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        task = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["idempotency-key"] == task["taskId"]
        answer = json.dumps({"result": {"text": task["payload"]["text"].upper()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        return None


def test_a_worker_behind_a_url_serves_a_type(queue: Queue, daemons: Daemons, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Worker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        file = tmp_path / "workflows.yaml"
        file.write_text(f"version: 1\nremote:\n  shout: {{url: 'http://127.0.0.1:{server.server_port}/'}}\n")
        daemons("--workflows", str(file)).ready()
        task = queue.put_one("shout", text="hello")

        queue.wait_for([task], "completed")
        server.shutdown()

    assert queue.field(task, "result") == {"text": "HELLO"}


@pytest.mark.parametrize("broker", ["nats", "rabbitmq"])
async def test_no_task_is_lost_when_remote_workers_are_killed_and_cut_off(
    broker: str, queue: Queue, daemons: Daemons, tmp_path: Path, node_path: str
) -> None:
    """Three workers in two languages, each killed with tasks in hand; and one cut off, which comes back."""
    file = tmp_path / "workflows.yaml"
    file.write_text("version: 1\nremote:\n  shout: {timeout: 3s, max_retries: 20}\n")
    with ExitStack() as stack:
        url = stack.enter_context(private("nats")).url if broker == "nats" else stack.enter_context(found("rabbitmq"))
        async with Proxy(url) as proxy:
            loop = asyncio.get_running_loop()
            port, cut_port = urlsplit(url).port, urlsplit(proxy.url).port
            by_proxy = url.replace(f":{port}", f":{cut_port}") if port else url
            assert by_proxy != url
            suffix, variable = ("amqp", "RABBITMQ_URL") if broker == "rabbitmq" else ("nats", "NATS_SERVERS")

            def start(number: int) -> subprocess.Popen[bytes]:
                command = ("node", f"worker-{suffix}.cjs") if number == 0 else (sys.executable, f"worker-{suffix}.py")
                log = tmp_path / f"worker-{number}-{len(list(tmp_path.iterdir()))}"
                log.mkdir()
                address = by_proxy if number == 2 else url
                return stack.enter_context(worker(log, *command, **{variable: address, "NODE_PATH": node_path}))

            await asyncio.to_thread(_kill_and_cut, queue, daemons, file, url, start, proxy, loop)


def _kill_and_cut(
    queue: Queue,
    daemons: Daemons,
    file: Path,
    url: str,
    start: Callable[[int], subprocess.Popen[bytes]],
    proxy: Proxy,
    loop: asyncio.AbstractEventLoop,
) -> None:
    workers = [start(number) for number in range(3)]
    daemons("--workflows", str(file), QW_BROKER_URL=url, QW_EVENTS="worker.lost").ready()
    ids: list[UUID] = []

    def finished(tasks: list[UUID]) -> int:
        return int(queue.value("select count(*) from qw.finished where task_id = any(%s)", tasks))

    def more() -> None:
        """Tasks for all three; one of them does not answer."""
        new = queue.put("shout", 15, text="word")
        ids.extend(new)
        wait_until(lambda: finished(new) >= 5)

    def is_noticed() -> bool:
        """A task of the cut-off worker timed out; none does if the cut swallowed its last acknowledgement."""
        timed_out = queue.value("select count(*) from qw.attempt where outcome = 'timed_out'")
        return timed_out > 0 or finished(ids) == len(ids)

    for number, victim in enumerate(workers):
        victim.send_signal(signal.SIGSTOP)
        more()
        victim.kill()
        workers[number] = start(number)
    loop.call_soon_threadsafe(proxy.swallow)
    more()
    wait_until(is_noticed)
    loop.call_soon_threadsafe(proxy.open)
    more()
    queue.wait_for(ids, "completed", 240)

    assert {queue.field(id, "result")["text"] for id in ids} == {"WORD"}
    queue.expect_whole()
