"""Listens for NOTIFY on a direct connection. Only a hint: polling finds everything it misses, a second later.

The connection also holds the worker's session lock, so losing the heartbeat's connection does not count as a death.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from qw.core.errors import QwError
from qw.core.task import Lane
from qw.daemon.loops import retry_seconds
from qw.store import listening
from qw.store.listening import Channel

log = logging.getLogger(__name__)


class Listener:
    """``heard`` is called for lanes that got tasks, ``look`` when notifications may have been missed or polling is
    due.

    ``wakeup`` is called when a task was signalled, ``asked`` when the stack of one of this worker's tasks is requested.
    """

    def __init__(
        self,
        url: str,
        *,
        identity: Callable[[], int],
        heard: Callable[[list[Lane]], None],
        look: Callable[[], None],
        wakeup: Callable[[], None],
        asked: Callable[[], None],
    ) -> None:
        self._url = url
        self._identity = identity
        self._heard = heard
        self._look = look
        self._wakeup = wakeup
        self._asked = asked
        self._line: asyncio.Timeout | None = None
        self.listening = asyncio.Event()

    def renew(self) -> None:
        """Reconnect with another worker number, and so another lock."""
        if self._line is not None and not self._line.expired():
            self._line.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(None) as self._line:
                    async for channel, payload in listening.notifications(self._url, self._identity()):
                        failures = 0
                        self._react(channel, payload)
            except TimeoutError:
                failures = 0  # renewed
            except QwError as error:
                log.debug("listener lost the database", extra={"error": str(error)})
            self._line = None
            self.listening.clear()
            failures += 1
            await asyncio.sleep(retry_seconds(failures))

    def _react(self, channel: Channel, payload: str) -> None:
        match channel:
            case Channel.READY:
                queue, _, priority = payload.rpartition(" ")
                if priority.isdigit():
                    self._heard([Lane(queue, int(priority))])
            case Channel.LISTENING:
                self.listening.set()
                self._look()
            case Channel.STACK:
                if payload == str(self._identity()):
                    self._asked()
            case Channel.WAKEUP:
                self._wakeup()
            case Channel.CANCEL:
                self._look()
