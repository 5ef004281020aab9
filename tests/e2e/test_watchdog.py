"""systemd's watchdog, as a daemon feeds it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue


def test_a_handler_that_blocks_the_event_loop_does_not_keep_the_watchdog_from_its_food(
    daemons: Daemons, queue: Queue, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        daemon = daemons(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000").ready()
        task = queue.put_one("block", seconds=1.5)
        wait_until(lambda: daemon.marks("begin"))
        fed, end = 0, time.monotonic() + 1.2
        while time.monotonic() < end:
            fed += systemd.recv(2000) == b"WATCHDOG=1"

    assert fed >= 6
    queue.wait_for([task], "completed")
