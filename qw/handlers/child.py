"""A program started for one attempt under `supervise.py`, which can stop it and ends it if the daemon dies."""

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
    """A program to run. ``executable``: its absolute path. ``argv[0]``: the program name that it sees.

    ``keeps_background``: processes that it leaves behind continue to run instead of being terminated. ``user``: the
    name of the user to run as, empty for the daemon's own; only root may set another.
    """

    executable: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    keeps_background: bool = False
    user: str = ""


@dataclass(frozen=True, kw_only=True)
class ExitStatus:
    """How a program ended. ``signal``: what killed it, else 0. ``left``: processes it left, as ``47 (sleep)``."""

    code: int
    signal: int = 0
    left: str = ""

    def __str__(self) -> str:
        return f"killed by {signal_name(self.signal)}" if self.signal else f"exit code {self.code}"


def signal_name(number: int) -> str:
    """Return the number and name of a signal: ``signal 9 (SIGKILL)``."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


class Child:
    """A running program, controlled through the socket *link* to its supervisor."""

    def __init__(self, popen: subprocess.Popen[bytes], link: socket.socket, reader: asyncio.StreamReader) -> None:
        self._popen = popen
        self._link = link
        self._reader = reader

    async def ended(self) -> ExitStatus:
        """Wait until the program has ended, and the processes that it left behind too, unless they are kept.

        If the wait is cancelled, they are stopped first. Raise OSError if the program could not be started, and
        CancelledError("lease") if it was stopped because the lease expired.
        """
        try:
            report = await self._reader.read()
        except asyncio.CancelledError as cancelled:
            await self._stop(at_once="lease" in cancelled.args)
            raise
        self._popen.wait()  # cannot block: the supervisor closes its end of the link by exiting
        return _ended(report.decode(errors="replace"), self._popen.returncode)

    async def _stop(self, *, at_once: bool) -> None:
        """Send TERM, then KILL after GRACE_SECONDS, or immediately if cancelled again.

        ``at_once``: send KILL after 0.3 s, as when this process dies, because another worker may soon run the task.
        """
        with suppress(OSError):  # the supervisor may have exited
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
    """Start *program* with *stdin*. Yields the child and its stdout and stderr, or no pipes if not captured.

    Leaving the block before the program has ended kills it. Raise OSError if it cannot be started.
    """
    with ExitStack() as ends:
        ours, theirs = socket.socketpair()
        ends.enter_context(ours)
        with theirs:
            popen = _spawn(program, theirs, stdin, subprocess.PIPE if capture else None)
        streams = [stream for stream in (popen.stdout, popen.stderr) if stream]
        unread = ends.enter_context(ExitStack())  # closes them if this is cancelled before the loop has them all
        for stream in streams:
            unread.callback(stream.close)
        ends.callback(_kill, popen, ours)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        ends.callback(writer.close)
        pipes: list[Pipe] = []
        for stream in streams:
            pipes.append(await _pipe(stream))
            ends.callback(pipes[-1].close)
        unread.pop_all()
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
    """Write the command line to a file. If the supervisor had it as arguments, ``pgrep -f`` would find it twice."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(b"\0".join(map(os.fsencode, (program.executable, *program.argv))))
    file.flush()
    return file


def _kill(popen: subprocess.Popen[bytes], link: socket.socket) -> None:
    """Kill the program, normally within a second, blocking the event loop until it ends. No effect if it has ended."""
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
        """Wait for output and return it: 1 byte to 64 KiB, empty at the end."""
        return await self._reader.read(64 * 1024)

    def close(self) -> None:
        self._transport.close()


async def _pipe(stream: IO[bytes]) -> Pipe:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    return Pipe(reader, transport)


def _ended(report: str, returncode: int) -> ExitStatus:
    """Return how the program ended, by the supervisor's *report*. If the supervisor was killed, kill its group too."""
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
