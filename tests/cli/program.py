"""The real ``qw``: in this process, where only what it prints matters, and as a process of its own."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests import forked
from tests.databases import wait_until
from tests.forked import QW as QW


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command line ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def id(self) -> UUID:
        return UUID(self.out.strip())

    @property
    def ids(self) -> list[UUID]:
        return [UUID(line) for line in self.out.split()]


def environment(**given: str) -> dict[str, str]:
    """Ours without what would steer qw or libpq, and with *given*."""
    steering = ("QW_", "PG", "DB_", "DATABASE_", "COLUMNS")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return {**ours, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1", **given}


class Qw:
    """``qw`` on one database. Call it with the words of a command line."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self.environ = dict(environ)
        self.folder = folder

    def __call__(self, *words: str, stdin: str | bytes = b"", **environ: str) -> Done:
        """In this process: quick, and without signals."""
        from qw.cli.program import run

        content = stdin.encode() if isinstance(stdin, str) else stdin
        with self._here(**environ) as patch, _captured(patch, content) as (out, err):
            code = run(words)
            return Done(code=code, out=_text(out), err=_text(err))

    @contextmanager
    def _here(self, **environ: str) -> Iterator[pytest.MonkeyPatch]:
        """This process with the environment and in the folder of ``qw``."""
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ:
                patch.delenv(name)
            for name, value in {**self.environ, **environ}.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            yield patch

    def process(self, *words: str, stdin: str | bytes = b"", timeout: float = 60, **environ: str) -> Done:
        """As a process, to its end."""
        content = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*QW, *words],
            input=content,
            env={**self.environ, **environ},
            cwd=self.folder,
            capture_output=True,
            timeout=timeout,
        )
        return Done(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    @contextmanager
    def started(self, *words: str, **environ: str) -> Iterator[forked.Process]:
        """As a process that goes on, its output in the file ``started.log``. Told to stop at the end."""
        process = forked.start(
            words, environ={**self.environ, **environ}, folder=self.folder, log=self.folder / "started.log"
        )
        try:
            yield process
        finally:
            _stop(process)

    @contextmanager
    def daemon(self, *words: str, **environ: str) -> Iterator[forked.Process]:
        """A daemon that is ready."""
        with self.started("daemon", "--log-format", "json", *words, **environ) as process:
            wait_until(lambda: "daemon is ready" in self.log or process.poll() is not None)
            assert process.poll() is None, self.log
            yield process

    @property
    def log(self) -> str:
        """What `started` processes said."""
        log = self.folder / "started.log"
        return log.read_text() if log.exists() else ""

    def drain(self) -> None:
        """Run whatever can run now, to its end, by a daemon in this process."""
        with self._here():
            asyncio.run(_drain())


async def _drain() -> None:
    from qw.cli.definition_files import of_files, of_start
    from qw.config import load
    from qw.daemon.daemon import Daemon, DaemonOptions
    from qw.daemon.database import ready

    settings = load(os.environ, {"allow_commands": True})
    database = await ready(settings)
    definitions = of_files([]) or await of_start(database.url)
    options = DaemonOptions(definitions=definitions, until_drained=True, http=False)
    async with Daemon(settings, database, options) as daemon:
        await daemon.run()


def _stop(process: forked.Process) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _captured:
    """What is printed while it holds, and stdin with *content*. Not capsys: that has no bytes and no real stdin."""

    def __init__(self, patch: pytest.MonkeyPatch, content: bytes) -> None:
        self._patch = patch
        self._content = content

    def __enter__(self) -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        self._patch.setattr(sys, "stdout", out)
        self._patch.setattr(sys, "stderr", err)
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(self._content), encoding="utf-8"))
        return out, err

    def __exit__(self, *error: object) -> None:
        return None


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def lines(tasks: Sequence[object]) -> str:
    """JSON lines."""
    return "".join(json.dumps(task) + "\n" for task in tasks)
