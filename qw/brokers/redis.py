"""Redis: every event is added to a stream, for consumers that must not miss any, and published on its channel.

Its setting ``appendfsync`` decides how much survives a crash of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qw.brokers import TIMEOUT, LoginRefused, Refused, SetupRefused
from qw.brokers.trouble import unavailable, without_secrets
from qw.core.errors import Unavailable, Unreachable
from qw.core.event import EventFormat, Message

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM = "qw:events"
MAX_LENGTH = 1_000_000

# A server that takes no writes at all, whatever the event.
_NO_WRITES = ("READONLY", "OOM", "NOREPLICAS", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "LOADING")

# One command for a batch: packing two for every event and reading their answers takes 40 us of the relay's time. Who
# hears a PUBLISH, or whether we may, is nobody's business. It answers with the numbers of what was not stored, after
# what Redis said to the first of them.
_PUBLISH = """
    local refused = {}
    for i = 2, #ARGV, 4 do
      local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
                                'id', ARGV[i], 'type', ARGV[i + 1], 'body', ARGV[i + 3])
      if type(added) == 'table' and added.err then
        if #refused == 0 then refused[1] = added.err end
        refused[#refused + 1] = (i - 2) / 4
      else
        redis.pcall('PUBLISH', ARGV[i + 2], ARGV[i + 3])
      end
    end
    return refused"""


class RedisBroker:
    """Channels ``qw:task.completed.http_request``; for ``nest`` the bare pattern."""

    name = "redis"
    max_bytes: int | None = 64 * 1024 * 1024

    def __init__(self, url: str, *, format: EventFormat, stream: str = STREAM, channel_prefix: str = "qw:") -> None:
        self._url = url
        self._stream = stream
        self._prefix = "" if format is EventFormat.NEST else channel_prefix
        self._client: Redis | None = None

    async def open(self) -> None:
        if self._client is not None:
            return
        with self._trouble():
            client = connect(self._url)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await client.ping()
                    await _check_type(client, self._stream)
            except BaseException:
                await client.aclose()
                raise
        self._client = client

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self.open()
        assert self._client is not None
        words: list[str | bytes] = []
        for message in messages:
            words += (str(message.id), message.type, f"{self._prefix}{message.topic}", message.body)
        try:
            with self._trouble():
                async with asyncio.timeout(TIMEOUT):
                    refused = await self._client.register_script(_PUBLISH)([self._stream], [MAX_LENGTH, *words])
        except BaseException:
            await self.close()
            raise
        numbers = {int(number) for number in refused[1:]}
        if numbers and len(numbers) == len(messages):
            said = without_secrets(refused[0].decode(errors="replace"), self._url)
            if said.startswith(("WRONGTYPE", "NOPERM", "ERR The user executing the script")):
                raise SetupRefused(f"redis refuses the setup: {said} (stream {self._stream})")
            raise (Unavailable if said.startswith(_NO_WRITES) else Refused)(f"redis: {said}")
        return {message.id for number, message in enumerate(messages) if number not in numbers}

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.aclose(), 1.0)

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        return trouble(self._url)


async def _check_type(client: Redis, stream: str) -> None:
    """Raise SetupRefused if the stream's key holds another type. Users who may not run TYPE are not checked."""
    from redis.exceptions import NoPermissionError

    with contextlib.suppress(NoPermissionError):
        said: Any = await client.type(stream)
        kind = said.decode()
        if kind not in ("none", "stream"):
            raise SetupRefused(f"redis refuses the setup: WRONGTYPE, key {stream} is a {kind}, not a stream; rename it")


def trouble(url: str) -> contextlib.AbstractContextManager[None]:
    """A context that turns errors of redis-py into Unavailable."""
    from redis.exceptions import RedisError

    return unavailable("redis", url, RedisError, kind_of=_kind)


def _kind(error: Exception) -> type[Unavailable]:
    from redis.exceptions import (
        AuthenticationError,
        BusyLoadingError,
        ConnectionError,
        NoPermissionError,
        ResponseError,
    )

    text = str(error)
    if isinstance(error, AuthenticationError) or text.startswith(("WRONGPASS", "NOAUTH", "invalid username")):
        return LoginRefused
    if isinstance(error, NoPermissionError) or text.startswith(("WRONGTYPE", "NOPERM", "unknown command")):
        return SetupRefused
    if isinstance(error, BusyLoadingError) or not isinstance(error, ConnectionError):
        return Unavailable if isinstance(error, ResponseError | BusyLoadingError) else Unreachable
    return Unreachable


def connect(url: str, *, timeout: float = TIMEOUT) -> Redis:
    """A client with one connection, opened on first use. A lost connection is reopened; nothing is sent twice."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client: Redis = Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=TIMEOUT,
        health_check_interval=0,
        client_name="qw",
        retry=Retry(NoBackoff(), 0),
        max_connections=2,
    )
    return client
