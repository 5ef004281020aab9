"""Slows down the guessing of tokens, by client address.

After `FREE` wrong tokens an address must wait, with exponential backoff, before another token is checked. Only tokens
that were correct from that address before are still checked; the response does not tell whether others are correct.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from qw.core.backoff import backoff_seconds

FREE = 30  # wrong tokens before an address must wait
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds, doubling
FORGOTTEN = 600.0  # seconds without a wrong token after which the count is reset
MOST_ADDRESSES = 10_000
MOST_RIGHT = 100  # correct tokens remembered per address


@dataclass
class _Address:
    wrong: int = 0
    last_wrong: float = 0.0
    right: set[bytes] = field(default_factory=set)

    @property
    def wait(self) -> float:
        over = self.wrong - FREE
        return 0.0 if over < 0 else backoff_seconds(over + 1, first=FIRST_WAIT, longest=LONGEST_WAIT)


class Guesses:
    """The failures of each address; see the module. *clock* returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def wait(self, address: str, secret: bytes) -> float:
        """Return the seconds until a token from *address* is checked; 0 means now."""
        known = self._addresses.get(_network(address))
        if known is None or _digest(secret) in known.right:
            return 0.0
        since = self._clock() - known.last_wrong
        if since >= FORGOTTEN:
            known.wrong = 0
        return max(known.wait - since, 0.0)

    def note(self, address: str, secret: bytes, *, is_right: bool) -> None:
        """Record whether a token from *address* was correct."""
        key = _network(address)
        known = self._addresses.setdefault(key, _Address())
        self._addresses.move_to_end(key)
        if not is_right:
            known.wrong += 1
            known.last_wrong = self._clock()
        elif len(known.right) < MOST_RIGHT:
            known.right.add(_digest(secret))
        while len(self._addresses) > MOST_ADDRESSES:
            self._addresses.popitem(last=False)


def _digest(secret: bytes) -> bytes:
    return sha256(secret).digest()


def _network(address: str) -> str:
    """Return the address; for IPv6 its first 64 bits, which belong to one customer."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) else address
