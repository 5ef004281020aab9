"""PostgreSQL as the broker: events are kept in the event log, and NOTIFY qw_event sends the number of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from qw.core.event import Message


class Log(Protocol):
    """What the broker needs from the database. Implemented by the store."""

    async def keep(self, messages: Sequence[Message]) -> None:
        """Store messages, whose bodies are CloudEvents, and notify. Safe to repeat. Raises Unavailable."""
        ...


class PostgresBroker:
    """See the module."""

    name = "postgres"
    max_bytes: int | None = None

    def __init__(self, log: Log) -> None:
        self._log = log

    async def open(self) -> None:
        return None

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        await self._log.keep(messages)
        return {message.id for message in messages}

    async def close(self) -> None:
        return None
