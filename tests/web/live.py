"""The real server on a free port, in a thread with a loop of its own, with or without a daemon beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

import httpx

from qw.client import Client
from qw.config import Settings, load
from qw.daemon.daemon import Daemon
from qw.daemon.daemon import DaemonOptions as DaemonOptions
from qw.daemon.database import Database
from qw.definitions import loads
from qw.web import WebOptions, application, serving

T = TypeVar("T")


class Live:
    """A server that listens. ``api`` speaks JSON with it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base = f"http://127.0.0.1:{port}"
        self.api = httpx.Client(base_url=self.base, timeout=60)

    def get(self, path: str, **more: Any) -> Any:
        """What a GET answers with 200."""
        answer = self.api.get(path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: object = None, **more: Any) -> Any:
        """What a POST answers with 201."""
        answer = self.api.post(path, json=body, **more)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def task(self, type: str = "noop", payload: Mapping[str, object] | None = None, **fields: object) -> str:
        """The id of a new task."""
        return str(self.post("/api/task", {"type": type, "payload": payload or {}, **fields})["taskId"])

    def final(self, id: str) -> Any:
        """The task once it is final."""
        return until(lambda: self.get(f"/api/task/{id}"), lambda task: task["status"] in FINAL)


FINAL = ("completed", "failed", "cancelled")


def until(look: Callable[[], T], is_right: Callable[[T], object] = bool, seconds: float = 60) -> T:
    """What *look* sees once it is right. Fail when it takes longer."""
    deadline = time.monotonic() + seconds
    asked = time.monotonic()
    while not is_right(seen := look()):
        now = time.monotonic()
        assert now < deadline, f"this never came true; last seen: {seen}"
        time.sleep(max(0.01, now - asked))  # who asks leaves half of the time to who is to answer
        asked = time.monotonic()
    return seen


@contextmanager
def live(
    url: str,
    environ: Mapping[str, str] | None = None,
    *,
    daemon: bool = False,
    definitions: str = "version: 1",
    app: str | None = None,
    options: WebOptions | None = None,
) -> Iterator[Live]:
    """A server over the database at *url*, set up by *environ* (``QW_…`` variables).

    *definitions* and *app* are those of a daemon.
    """
    settings = load({"QW_DATABASE_URL": url, "QW_HTTP_ALLOW": "127.0.0.0/8", **(environ or {})})
    ready = threading.Event()
    beside = DaemonOptions(app=app, definitions=[loads(definitions)]) if daemon else None
    thread = _Thread(url, settings, options or WebOptions(), beside, ready)
    thread.start()
    ready.wait(60)
    if thread.error is not None or not thread.port:
        thread.join(5)
        raise thread.error or RuntimeError("the server did not start")
    started = Live(thread.port)
    try:
        yield started
    finally:
        thread.stop()
        started.api.close()
    if thread.error is not None:
        raise thread.error


class _Thread(threading.Thread):
    def __init__(
        self, url: str, settings: Settings, options: WebOptions, beside: DaemonOptions | None, ready: threading.Event
    ) -> None:
        super().__init__(name="live server")
        self._url, self._settings, self._options, self._beside = url, settings, options, beside
        self._ready = ready
        self.port = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.error = error
        finally:
            self._ready.set()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(30)
        assert not self.is_alive()

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(self._url, size=5, name="qw http", timeout=2))
            app = application(client, self._settings, self._options)
            if self._beside:
                await stack.enter_async_context(Daemon(self._settings, Database(url=self._url), self._beside))
            self.port = await stack.enter_async_context(serving(app, "127.0.0.1", 0))
            self._ready.set()
            await self._over.wait()
