"""Daemons that are forked from a process that has imported them: imports are most of what a daemon's start costs.

Run as a program, this module is that process. It answers requests on a socket, one JSON document a line: to start
``qw`` with some words, and how a process that it started has ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
QW = [sys.executable, "-m", "qw"]
_MODULES = ("qw.cli.program", "qw.cli.commands.daemon", "qw.daemon.daemon", "qw.daemon.startup", "uvloop")


class Process(Protocol):
    """What `subprocess.Popen` and `ForkedProcess` have in common."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class ForkedProcess:
    """As `subprocess.Popen`: a child of the fork server, which reaps it when it is asked how it ended."""

    def __init__(self, server: _ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("qw", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _ForkServer:
    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(other.fileno())],
                cwd=ROOT, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._answers = self._socket.makefile("rb")

    def ask(self, request: Mapping[str, object]) -> Any:
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(self._answers.readline())

    def end(self) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait(60)


_server: _ForkServer | None = None


def start(words: Sequence[str], *, environ: Mapping[str, str], folder: Path, log: Path) -> ForkedProcess:
    """Run ``qw`` with *words* in *folder*; what it prints is added to *log*."""
    global _server
    _server = _server or _ForkServer()
    log.touch()
    request = {"words": [*words], "environ": {**environ}, "folder": str(folder), "log": str(log)}
    return ForkedProcess(_server, _server.ask(request))


def end() -> None:
    """End the fork server, if there is one. What it started goes on."""
    global _server
    if _server:
        _server.end()
        _server = None


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Answer until nobody asks any more. In a child: return at once with what it is to run."""
    with control, control.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            if "poll" in request:
                pid, status = os.waitpid(request["poll"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
            elif not (answer := os.fork()):
                return dict(request)
            control.sendall(json.dumps(answer).encode() + b"\n")
    return None


def _become(request: dict[str, Any]) -> None:
    """Be as if the interpreter had been started so."""
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    sys.argv = [str(ROOT / "qw" / "__main__.py"), *request["words"]]


def _main() -> None:
    import importlib

    for module in _MODULES:
        importlib.import_module(module)
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        from qw.cli import main

        _become(request)
        main()


if __name__ == "__main__":
    _main()
