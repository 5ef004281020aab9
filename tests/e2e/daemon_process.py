"""A real daemon as a process of its own, with the handlers of `fault_app`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import forked
from tests.databases import wait_until
from tests.processes import slowed

ROOT = Path(__file__).parents[2]
LEASE = 2.0  # seconds, the shortest that qw takes
QUICK = {
    "QW_LEASE": "2s",
    "QW_HEARTBEAT": "400ms",
    "QW_TICK": "100ms",
    "QW_LOG_FORMAT": "json",
    "QW_LOG_LEVEL": "debug",
}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A line that a handler wrote."""

    word: str
    task: str
    attempt: int
    key: str
    pid: int


@dataclass(kw_only=True)
class Daemon:
    """One process. ``directory`` is where its log and the marks of all handlers are."""

    url: str
    directory: Path
    name: str = "daemon"
    tree: Path = ROOT  # whose qw it runs
    fresh: bool = False  # in a new interpreter, which takes longer
    process: forked.Process = field(init=False)

    def start(self, *args: str, **environment: str) -> Daemon:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("QW_", "PG", "DB_", "DATABASE_"))
        }
        env = {
            **kept, **QUICK, "QW_DATABASE_URL": self.url, "QW_HOME": str(self.directory),
            "QW_TEST_MARKS": str(self.directory / "marks"), **environment,
        }  # fmt: skip
        words = ["daemon", "--no-http", "--app", "tests.e2e.fault_app:app", *args]
        is_plain = all(name.startswith("QW_") for name in environment)
        if is_plain and not self.fresh:
            self.process = forked.start(words, environ=env, folder=self.tree, log=self.log_file)
        else:
            with self.log_file.open("ab") as log:
                self.process = subprocess.Popen([*forked.QW, *words], cwd=self.tree, env=env, stderr=log, stdout=log)
        return self

    @property
    def log_file(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it said, line by line; a line that is no JSON is its own message."""
        return [_line(text) for text in self.log_file.read_text().splitlines()]

    def said(self, message: str) -> list[dict[str, Any]]:
        """The lines with *message*, a text without quotes."""
        lines = [_line(text) for text in self.log_file.read_text().splitlines() if message in text]
        return [line for line in lines if message in str(line["message"])]

    def ready(self) -> Daemon:
        """Come back when it claims."""
        wait_until(lambda: self.said("daemon is ready") or self.process.poll() is not None)
        assert self.process.poll() is None, self.log_file.read_text()
        return self

    @property
    def worker(self) -> int:
        return int(self.said("daemon is ready")[-1]["worker"])

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def freeze(self) -> None:
        """Stop the process; it has stopped when this returns."""
        self.send(signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        if state.exists():  # elsewhere the signal has to do
            wait_until(lambda: state.read_text().rpartition(") ")[2].startswith("T"))

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def exit_code(self, seconds: float = 15) -> int:
        """How it ended, within *seconds* on a machine that has nothing else to do."""
        return self.process.wait(slowed(seconds))

    def marks(self, word: str | None = None) -> list[Mark]:
        """What the handlers of all daemons in this directory wrote, oldest first."""
        path = self.directory / "marks"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        marks = [Mark(word=w, task=t, attempt=int(a), key=k, pid=int(p)) for w, t, a, k, p in lines]
        return [m for m in marks if word in (None, m.word)]


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {"message": text, "level": "none"}
    return line if isinstance(line, dict) else {"message": text, "level": "none"}


class Daemons:
    """Those that a test starts; none of them outlives it."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory
        self._all: list[Daemon] = []

    def __call__(self, *args: str, url: str | None = None, **environment: str) -> Daemon:
        """A daemon that is started; say ``ready()`` to wait for it."""
        return self._made(url or self.url, ROOT).start(*args, **environment)

    def of(self, tree: Path) -> Daemon:
        """One that runs the qw in *tree*, in a new interpreter."""
        return self._made(self.url, tree, fresh=True).start()

    def _made(self, url: str, tree: Path, *, fresh: bool = False) -> Daemon:
        made = Daemon(url=url, directory=self._directory, name=f"daemon-{len(self._all)}", tree=tree, fresh=fresh)
        self._all.append(made)
        return made

    def end(self) -> Iterator[str]:
        """Kill what is left. Yields the tracebacks that daemons wrote."""
        for daemon in self._all:
            if daemon.is_alive:
                daemon.kill()
        for daemon in self._all:
            if "Traceback" in daemon.log_file.read_text():
                yield daemon.log_file.read_text()
