"""The check at the end of a test run sees what was left running."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.processes import MARK, end, free_port, left_behind


def test_what_inherits_the_mark_is_found_and_ended(tmp_path: Path) -> None:
    environment = {**os.environ, MARK: "this test"}

    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        found = left_behind("this test", tmp_path, timeout=0)
        end(found)

    assert [one.pid for one in found] == [process.pid]
    assert "sleep 60 (started by tests/test_processes.py::test_what_inherits_the_mark" in str(found[0])
    assert left_behind("this test", tmp_path) == []


def test_what_works_in_the_folder_is_found_whatever_it_inherits(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"]}, cwd=tmp_path) as process:
        found = left_behind("none", tmp_path, timeout=0)
        end(found)

    assert [one.pid for one in found] == [process.pid]


def test_a_free_port_can_be_listened_on_at_once() -> None:
    for _ in range(20):
        with socket.socket() as server:
            server.bind(("127.0.0.1", free_port()))
            server.listen()
