"""Where events go: one provider per broker, all under one contract; and where commands come from.

A provider connects when it must, and again after it lost its broker; waiting and trying again is its caller's business.
What it says of an error has no password in it.
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
    """The broker answers, and took none of the messages: it is in trouble, or there is something wrong with one."""

    code = "unavailable"


class LoginRefused(Unavailable):
    """The broker answers, and takes no such user or password."""


class SetupRefused(Unavailable):
    """The broker answers, and what qw publishes to is missing, other than it needs, or not allowed to this user."""


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
    """A message from outside. ``id``: what its sender calls it, None: nothing. ``receipt`` is its inbox's own."""

    id: str | None
    body: bytes
    receipt: object


class Inbox(Protocol):
    """A queue that commands come in by. What is neither taken nor refused is delivered again."""

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
