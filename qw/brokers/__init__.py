"""Brokers for events and commands: one provider per broker, all with the same interface.

A provider connects when needed, also after it lost the broker; waiting and retrying is up to the caller. Its error
messages contain no passwords.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from qw.core.errors import Unavailable
from qw.core.event import Message

TIMEOUT = 5.0  # seconds that a broker gets to answer


class Refused(Unavailable):
    """The broker answers, but accepted none of the messages: it has a problem, or one of the messages is faulty."""

    code = "unavailable"


class LoginRefused(Unavailable):
    """The broker answers, but rejects the user or password."""


class SetupRefused(Unavailable):
    """The broker answers, but the target of the events is missing, incompatible, or not permitted to this user."""


class Broker(Protocol):
    name: str

    @property
    def max_bytes(self) -> int | None:
        """The longest body it takes, known once it is open; None: any."""
        ...

    async def open(self) -> None:
        """Connect and declare what is published to. Does nothing when that is so. Raises Unavailable."""
        ...

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        """Hand over *messages*, no two of one key. Returns the ids of those that the broker has for good.

        Raises Refused when it said no to all of them (or to one, and closed), Unavailable when it has none or nobody
        knows which. Opens first where needed. Safe to repeat.
        """
        ...

    async def close(self) -> None:
        """Let the connection go. Never raises; the next `open` makes another."""
        ...


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message from outside. ``id``: the sender's id for it; None: it has none. ``receipt`` is private to its
    inbox.
    """

    id: str | None
    body: bytes
    receipt: object


class Inbox(Protocol):
    """A queue of commands. Messages that are neither taken nor refused are delivered again."""

    name: str
    queue: str  # what its broker calls it

    async def open(self) -> None:
        """Connect and declare the queue. Does nothing when that is so. Raises Unavailable."""
        ...

    async def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to *limit* messages; empty when none came in *timeout* seconds. Raises Unavailable."""
        ...

    async def take(self, delivery: Delivery) -> None:
        """The message is done with: the broker may forget it."""
        ...

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        """Move the message to the dead-letter queue, with the reason."""
        ...

    async def close(self) -> None: ...
