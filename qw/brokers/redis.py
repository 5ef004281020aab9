"""Redis: every event in a stream, for those who must not miss one, and published on its channel for who listens now.

How much of that survives the loss of the server is for its ``appendfsync`` to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from qw.brokers import PATIENCE
from qw.brokers.trouble import unavailable
from qw.core.event import Format, Message

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM = "qw:events"
MAX_LENGTH = 1_000_000


class RedisBroker:
    """Channels ``qw:task.completed.http_request``; for ``nest`` the bare pattern."""

    name = "redis"
    max_bytes: int | None = 64 * 1024 * 1024

    def __init__(self, url: str, *, format: Format, stream: str = STREAM, channel_prefix: str = "qw:") -> None:
        self._url = url
        self._stream = stream
        self._prefix = "" if format is Format.NEST else channel_prefix
        self._client: Redis | None = None

    async def open(self) -> None:
        if self._client is not None:
            return
        with self._trouble():
            client = connect(self._url)
            try:
                async with asyncio.timeout(PATIENCE):
                    await client.ping()
            except BaseException:
                await client.aclose()
                raise
        self._client = client

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self.open()
        assert self._client is not None
        pipeline = self._client.pipeline(transaction=False)
        for message in messages:
            fields = {"id": str(message.id), "type": message.type, "body": message.body}
            pipeline.xadd(self._stream, fields, maxlen=MAX_LENGTH, approximate=True)  # type: ignore[arg-type]
            pipeline.publish(f"{self._prefix}{message.topic}", message.body)
        try:
            with self._trouble():
                async with asyncio.timeout(PATIENCE):
                    answers = await pipeline.execute(raise_on_error=False)
        except BaseException:
            await self.close()
            raise
        stored = answers[::2]  # each message's XADD; nobody may hear its PUBLISH, and that is no fault
        with self._trouble():
            if stored and all(isinstance(answer, Exception) for answer in stored):
                raise stored[0]
        pairs = zip(messages, stored, strict=True)
        return {message.id for message, answer in pairs if not isinstance(answer, Exception)}

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.aclose(), 1.0)

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        from redis.exceptions import RedisError

        return unavailable("redis", self._url, RedisError)


def connect(url: str, *, timeout: float = PATIENCE) -> Redis:
    """A client of one connection, opened when first used; a lost one is opened anew, nothing is sent twice."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client: Redis = Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=PATIENCE,
        health_check_interval=0,
        client_name="qw",
        retry=Retry(NoBackoff(), 0),
        max_connections=2,
    )
    return client
