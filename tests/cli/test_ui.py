"""`qw ui`: the dashboard alone; where a terminal is told its address."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.cli.program import QW, environment
from tests.databases import wait_until


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def answers(base: str) -> bool:
    try:
        return httpx.get(f"{base}/livez").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("words", [["ui", "--read-only"], ["daemon"]])
def test_a_terminal_is_told_where_the_dashboard_is(url: str, tmp_path: Path, words: list[str]) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    ours, theirs = pty.openpty()
    environ = environment(QW_DATABASE_URL=url, QW_HOME=str(tmp_path))
    with subprocess.Popen([*QW, *words, "--port", str(port)], stderr=theirs, env=environ, cwd=tmp_path) as process:
        os.close(theirs)
        try:
            wait_until(lambda: answers(base))
            page = httpx.get(f"{base}/ui/tasks")
            change = httpx.post(f"{base}/api/queues/mail/pause")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    shown = os.read(ours, 65536).decode()
    os.close(ours)

    assert f"dashboard: {base}/\r\n" in shown
    assert "<title>qw" in page.text
    assert change.status_code == (403 if "--read-only" in words else 201)


def test_what_is_no_terminal_is_told_nothing(url: str, tmp_path: Path) -> None:
    port = free_port()
    environ = environment(QW_DATABASE_URL=url, QW_HOME=str(tmp_path))
    command = [*QW, "ui", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environ, cwd=tmp_path) as process:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}"))
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)

    assert process.returncode == 0
    assert b"dashboard:" not in told
