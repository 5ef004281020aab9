"""A program started for one attempt, watched by `supervise.py`: it can be stopped, and dies with the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from qw.handlers.leash import current_leash

GRACE_SECONDS = 5.0  # between TERM and KILL

_SUPERVISOR = str(Path(__file__).with_name("supervise.py"))


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run. ``executable`` is an absolute path; ``argv[0]`` is the name it gets to see.

    ``keeps_background``: what it leaves running when it ends goes on, instead of being ended. ``user``: its name, where
    it is not the daemon's; only root may give one.
    """

    executable: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    keeps_background: bool = False
    user: str = ""


@dataclass(frozen=True, kw_only=True)
class ExitStatus:
    """How a program ended. ``signal`` is 0 unless one killed it. ``left``: what it left running, as ``47 (sleep)``."""

    code: int
    signal: int = 0
    left: str = ""

    def __str__(self) -> str:
        return f"killed by {signal_name(self.signal)}" if self.signal else f"exit code {self.code}"


def signal_name(number: int) -> str:
    """``signal 9 (SIGKILL)``"""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


class Child:
    """A running program, at the other end of *link*."""

    def __init__(self, popen: subprocess.Popen[bytes], link: socket.socket, reader: asyncio.StreamReader) -> None:
        self._popen = popen
        self._link = link
        self._reader = reader

    async def ended(self) -> ExitStatus:
        """Wait until the program, and what it left running unless that is kept, are gone.

        If this is cancelled, they are stopped first.

        Raise OSError when it could not be started, CancelledError("lease") when it was stopped as the lease ran out.
        """
        try:
            report = await self._reader.read()
        except asyncio.CancelledError as cancelled:
            await self._stop(at_once="lease" in cancelled.args)
            raise
        self._popen.wait()  # its end of the link is closed: it is gone
        return _ended(report.decode(errors="replace"), self._popen.returncode)

    async def _stop(self, *, at_once: bool) -> None:
        """TERM, then KILL after GRACE_SECONDS; at once when cancelled again.

        ``at_once``: KILL follows after 0.3 s, as when this process dies: the task may soon run elsewhere.
        """
        with suppress(OSError):  # it may be gone already
            if at_once:
                self._link.shutdown(socket.SHUT_WR)
            else:
                self._link.send(b"stop")
        try:
            await self._reader.read()
        except asyncio.CancelledError:
            _kill(self._popen, self._link)
            raise
        self._popen.wait()


@asynccontextmanager
async def started(program: Program, *, stdin: IO[Any], capture: bool) -> AsyncIterator[tuple[Child, list[Pipe]]]:
    """Start *program*, reading *stdin*. Yields it with its stdout and stderr, or with no pipes when not captured.

    Leaving without having waited for its end kills it. Raise OSError when it cannot be started.
    """
    with ExitStack() as ends:
        ours, theirs = socket.socketpair()
        ends.enter_context(ours)
        with theirs:
            popen = _spawn(program, theirs, stdin, subprocess.PIPE if capture else None)
        ends.callback(_kill, popen, ours)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        ends.callback(writer.close)
        pipes = [await _pipe(stream) for stream in (popen.stdout, popen.stderr) if stream]
        for pipe in pipes:
            ends.callback(pipe.close)
        yield Child(popen, ours, reader), pipes


def _spawn(program: Program, link: socket.socket, stdin: IO[Any], output: int | None) -> subprocess.Popen[bytes]:
    leash = current_leash.get()
    deadline = -1 if leash is None else leash.fileno()
    with _words(program) as words:
        supervisor = [sys.executable, "-I", "-S", _SUPERVISOR, str(link.fileno()), str(deadline)]
        supervisor += [str(GRACE_SECONDS), "keep" if program.keeps_background else "end", program.user]
        return subprocess.Popen(
            [*supervisor, str(words.fileno())],
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=dict(program.env),
            cwd=program.cwd,
            pass_fds=[link.fileno(), words.fileno(), *([] if leash is None else [deadline])],
            start_new_session=True,
        )


def _words(program: Program) -> IO[bytes]:
    """A file with what to run. As arguments of the supervisor, ``ps`` and ``pgrep -f`` would find it twice."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(b"\0".join(map(os.fsencode, (program.executable, *program.argv))))
    file.flush()
    return file


def _kill(popen: subprocess.Popen[bytes], link: socket.socket) -> None:
    """End it within a second, and wait for that with the loop blocked. Nothing to do when it has ended."""
    if popen.returncode is None:
        link.shutdown(socket.SHUT_RDWR)
        with suppress(subprocess.TimeoutExpired):
            popen.wait(timeout=GRACE_SECONDS)


class Pipe:
    """The reading end of a program's stdout or stderr."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._reader = reader
        self._transport = transport

    async def read(self) -> bytes:
        """What has come, at least a byte; empty at the end."""
        return await self._reader.read(64 * 1024)

    def close(self) -> None:
        self._transport.close()


async def _pipe(stream: IO[bytes]) -> Pipe:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    return Pipe(reader, transport)


def _ended(report: str, returncode: int) -> ExitStatus:
    """How the program ended, by the supervisor's *report*; it ended with the supervisor if that was killed."""
    said = dict(line.split(" ", 1) for line in report.splitlines())
    if "failed" in said:
        raise OSError(said["failed"])
    if "expired" in said:
        raise asyncio.CancelledError("lease")
    if "exit" in said:
        return ExitStatus(code=int(said["exit"]), left=said.get("left", ""))
    if "signal" not in said and "started" in said:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(int(said["started"]), signal.SIGKILL)
    number = int(said.get("signal", max(-returncode, 0) or signal.SIGKILL))
    return ExitStatus(code=128 + number, signal=number, left=said.get("left", ""))
