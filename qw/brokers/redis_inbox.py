"""Commands from a Redis stream, which all daemons read as one consumer group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

from qw.brokers import TIMEOUT, Delivery
from qw.brokers.redis import connect, trouble
from qw.core.task.payload import shortened

if TYPE_CHECKING:
    from redis.asyncio import Redis

GROUP = "qw"
ABANDONED_MILLIS = 60_000  # a message that its reader held for so long is read by another


class RedisInbox:
    """Stream ``qw.commands``, with the message in field ``body``; rejected messages go to ``qw.commands.failed``.

    The field ``id`` of an entry, if present, is the sender's id of the message; else the number of the entry is used.
    """

    name = "redis"

    def __init__(self, url: str, stream: str) -> None:
        self._url = url
        self.queue = stream
        self._consumer = f"{socket.gethostname()}:{os.getpid()}"
        self._client: Redis | None = None
        self._has_own = True

    async def open(self) -> None:
        if self._client is not None:
            return
        from redis.exceptions import ResponseError

        with self._trouble():
            client = connect(self._url, timeout=4 * TIMEOUT)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await client.xgroup_create(self.queue, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    await client.aclose()
                    raise
            except BaseException:
                await client.aclose()
                raise
        self._client, self._has_own = client, True

    async def receive(self, limit: int, timeout: float) -> list[Delivery]:
        await self.open()
        assert self._client is not None
        try:
            with self._trouble():
                entries = await self._left(self._client, limit) or await self._new(self._client, limit, timeout)
        except BaseException:
            await self.close()
            raise
        return [self._delivery(number, fields) for number, fields in entries]

    async def _left(self, client: Redis, limit: int) -> list[Any]:
        """First the messages that this consumer received before it lost its connection, then those that other
        consumers abandoned.
        """
        async with asyncio.timeout(TIMEOUT):
            if self._has_own:
                answer: Any = await client.xreadgroup(GROUP, self._consumer, {self.queue: "0"}, count=limit)
                if entries := _entries(answer):
                    return entries
                self._has_own = False
            claimed: Any = await client.xautoclaim(
                self.queue, GROUP, self._consumer, min_idle_time=ABANDONED_MILLIS, count=limit
            )
        return [entry for entry in claimed[1] if entry[1]]

    async def _new(self, client: Redis, limit: int, timeout: float) -> list[Any]:
        async with asyncio.timeout(timeout + TIMEOUT):
            answer: Any = await client.xreadgroup(
                GROUP, self._consumer, {self.queue: ">"}, count=limit, block=max(int(timeout * 1000), 1)
            )
        return _entries(answer)

    def _delivery(self, number: bytes, fields: dict[bytes, bytes]) -> Delivery:
        own = f"{self.queue}:{number.decode()}"
        id = fields.get(b"id", b"").decode(errors="replace") or own
        body = fields.get(b"body") or fields.get(b"data") or b""
        return Delivery(id=id, body=body, receipt=number)

    async def take(self, delivery: Delivery) -> None:
        await self.open()
        assert self._client is not None
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
                await self._client.xack(self.queue, GROUP, self._number(delivery))

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        await self.open()
        assert self._client is not None
        fields: dict[Any, Any] = {"id": delivery.id or "", "body": delivery.body, "reason": shortened(reason, 1000)}
        with self._trouble():
            async with asyncio.timeout(TIMEOUT):
                await self._client.xadd(f"{self.queue}.failed", fields)
                await self._client.xack(self.queue, GROUP, self._number(delivery))

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.aclose(), 1.0)

    def _number(self, delivery: Delivery) -> Any:
        return delivery.receipt

    def _trouble(self) -> contextlib.AbstractContextManager[None]:
        return trouble(self._url)


def _entries(answer: Any) -> list[Any]:
    """The entries of the stream in an answer of XREADGROUP, which has two forms (RESP2, RESP3)."""
    streams = list(answer.values()) if isinstance(answer, dict) else [entries for _, entries in answer or []]
    flat = [entry for entries in streams for entry in entries]
    if flat and isinstance(flat[0], list):
        flat = flat[0]
    return [entry for entry in flat if entry[1]]
