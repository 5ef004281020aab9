"""Real brokers for the tests, and a proxy in front of them that can go deaf, dumb or down.

Each is where ``QW_TEST_<NAME>_URL`` says, or on its usual port, or started from its binary for this run. What cannot be
had is skipped at home and an error where ``CI=true``. Names on a broker are of one test, so runs do not meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.databases import wait_until
from tests.processes import free_port

DEFAULTS = {
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672/",
    "nats": "nats://127.0.0.1:4222",
    "redis": "redis://127.0.0.1:6379/0",
}


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


@dataclass(kw_only=True)
class Server:
    """A broker of our own, on a port that it keeps: to be stopped, killed, frozen and started again."""

    name: str
    url: str
    command: list[str]
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Up and answering. Does nothing when it is."""
        if self.process is None:
            with open(self.directory / "log", "ab") as log:
                self.process = subprocess.Popen(
                    self.command, cwd=self.directory, stdout=log, stderr=log, env={**os.environ, **self.environment},
                    start_new_session=True,
                )  # fmt: skip
        wait_until(lambda: answers(urlsplit(self.url).port or 0), 60)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, number)
            process.wait(60)


def _redis(directory: Path, port: int) -> Server:
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes",
               "--appendfsync", "always", "--save", "", "--dir", str(directory)]  # fmt: skip
    return Server(name="redis", url=f"redis://127.0.0.1:{port}/0", command=command, directory=directory)


def _nats(directory: Path, port: int) -> Server:
    command = ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(directory)]
    return Server(name="nats", url=f"nats://127.0.0.1:{port}", command=command, directory=directory)


def _rabbitmq(directory: Path, port: int) -> Server:
    (directory / "plugins").write_text("[].\n")
    (directory / "rabbitmq.conf").write_text("loopback_users = none\n")
    (directory / "env.conf").write_text("")
    environment = {
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"qwt{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(directory),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "env.conf"),
    }
    url = f"amqp://guest:guest@127.0.0.1:{port}/"
    command = [_rabbitmq_program() or "rabbitmq-server"]
    return Server(name="rabbitmq", url=url, command=command, directory=directory, environment=environment)


def _rabbitmq_program() -> str | None:
    """The script itself: what Debian puts on the path changes to another user first."""
    return next(map(str, sorted(Path("/usr/lib/rabbitmq").glob("lib/*/sbin/rabbitmq-server"))), None) or shutil.which(
        "rabbitmq-server"
    )


MAKERS: dict[str, Callable[[Path, int], Server]] = {"rabbitmq": _rabbitmq, "nats": _nats, "redis": _redis}


@contextmanager
def private(name: str, *more: str, configure: Callable[[Path], None] | None = None) -> Iterator[Server]:
    """A running server of our own, started with *more* arguments, after *configure* saw its directory.

    Skips where its program is missing.
    """
    with tempfile.TemporaryDirectory(prefix=f"qw-test-{name}-", ignore_cleanup_errors=True) as made:
        server = MAKERS[name](Path(made), free_port())
        if shutil.which(server.command[0]) is None:
            missing(name)
        server.command += more
        if configure:
            configure(server.directory)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def missing(name: str) -> None:
    text = f"no {name}: set QW_TEST_{name.upper()}_URL, or install it"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@contextmanager
def found(name: str) -> Iterator[str]:
    """The URL of a broker that is not ours to stop; one is started where none is there."""
    if url := os.environ.get(f"QW_TEST_{name.upper()}_URL"):
        yield url
    elif answers(urlsplit(DEFAULTS[name]).port or 0):
        yield DEFAULTS[name]
    else:
        with private(name) as server:
            yield server.url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    with found("rabbitmq") as url:
        yield url


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    with found("nats") as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with found("redis") as url:
        yield url


class Mood(Enum):
    OPEN = auto()  # passes everything on
    MUTE = auto()  # takes everything in and says nothing
    DUMB = auto()  # passes on what clients say, and swallows the answers
    DOWN = auto()  # lets nobody in


class Proxy:
    """Between a client and a broker. ``url`` is the broker's, with our port; ``mood`` may change at any time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = parts.hostname or "127.0.0.1", parts.port or 0
        self._url = url
        self._mood = Mood.OPEN
        self._pumps: set[asyncio.Task[None]] = set()
        self.swallowed = 0  # bytes of answers

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = self._url.replace(f"{self._target[0]}:{self._target[1]}", f"127.0.0.1:{self.port}")

    @property
    def mood(self) -> Mood:
        return self._mood

    @mood.setter
    def mood(self, mood: Mood) -> None:
        self._mood = mood
        if mood is Mood.DOWN:
            self.cut()

    def cut(self) -> None:
        """Break every connection."""
        for pump in self._pumps:
            pump.cancel()

    async def close(self) -> None:
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            if self._mood is not Mood.DOWN:
                await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pumps.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, back, {Mood.MUTE}))
                pumps.create_task(self._pump(there, writer, {Mood.MUTE, Mood.DUMB}))
        except* OSError:
            pass
        finally:
            back.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, swallowed: set[Mood]) -> None:
        while data := await source.read(65536):
            if self._mood in swallowed:
                self.swallowed += len(data)
                continue
            target.write(data)
            await target.drain()
        raise ConnectionResetError


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Come back when *condition* is true; an asynchronous one is awaited. Fail when it takes longer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < deadline, "this never came true"
        await asyncio.sleep(0.01)
