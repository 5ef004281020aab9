"""What test runs that go on beside each other must not share: ports, and processes that are left behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

MARK = "TESTS_OF"  # an environment variable that everything started by this process inherits
_PORTS = range(20_000, 32_000)  # below those that Linux and macOS give to clients by themselves


def free_port() -> int:
    """A port on which nobody listens, and that no client, and hardly any other test, gets until it is bound."""
    for port in random.sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def slowed(seconds: float) -> float:
    """What takes *seconds* on an idle machine may take this long beside what this one has to do now."""
    return seconds * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(frozen=True)
class LeftBehind:
    """A process that a test started and that still runs."""

    pid: int
    command: str
    test: str

    def __str__(self) -> str:
        return f"{self.pid} {self.command} (started by {self.test})"


def left_behind(mark: str, folder: Path | None, *, timeout: float = 5) -> list[LeftBehind]:
    """Processes that run after *timeout* seconds though their `MARK` begins with *mark* or they work in *folder*.

    Empty where there is no /proc.
    """
    deadline = time.monotonic() + timeout
    while (found := _find(mark, folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def end(processes: list[LeftBehind]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _find(mark: str, folder: Path | None) -> list[LeftBehind]:
    entries = [entry for entry in Path("/proc").glob("[0-9]*") if int(entry.name) != os.getpid()]
    return [found for entry in entries if (found := _belongs(entry, f"{MARK}={mark}", folder))]


def _belongs(entry: Path, variable: str, folder: Path | None) -> LeftBehind | None:
    try:
        environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
        is_marked = any(word.startswith(variable) for word in environment)
        works_there = folder is not None and (entry / "cwd").readlink().is_relative_to(folder)
        if not command or not (is_marked or works_there):
            return None  # no command: a zombie, or a thread of the kernel
    except OSError:
        return None  # it has ended, or is another user's
    test = next((word.partition("=")[2] for word in environment if word.startswith("PYTEST_CURRENT_TEST=")), "a test")
    return LeftBehind(int(entry.name), command, test)
