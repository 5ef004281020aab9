"""A proxy between a daemon and its database whose line can be swallowed or cut, while the test waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.proxy import Proxy


class Hole:
    """A proxy that runs in a thread, so that the test may wait."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._proxy = Proxy(url)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._proxy.__aenter__(), self._loop).result(10)
        self.url = self._proxy.url

    def swallow(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.swallow)

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.open)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.cut)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._proxy.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def hole(url: str) -> Iterator[Hole]:
    made = Hole(url)
    try:
        yield made
    finally:
        made.close()
