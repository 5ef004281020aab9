"""UUIDv7 ids, made by the client: an enqueue can be repeated safely, and COPY knows the ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from uuid import UUID

from qw.core.errors import Fault, Invalid


def uuid7(millis: int, entropy: bytes) -> UUID:
    """Return the id for a time in milliseconds since 1970 and 10 random bytes (RFC 9562, section 5.7)."""
    rand = int.from_bytes(entropy, "big")
    high = (millis << 16) | 0x7000 | (rand >> 68 & 0xFFF)
    low = (1 << 63) | (rand & (1 << 62) - 1)
    return UUID(int=high << 64 | low)


def millis_of(id: UUID) -> int:
    """Return the time in a UUIDv7, in milliseconds since 1970."""
    return id.int >> 80


def parse_id(text: str, *, path: str = "id") -> UUID:
    """Parse *text* as a UUID. Raise Invalid with *path* if it is not one."""
    try:
        if len(text) == 36:
            return UUID(text)
    except ValueError:
        pass
    raise Invalid(Fault(path=path, message=f"{text[:60]!r} is not a UUID"))


LEAST_DIGITS = 12  # the milliseconds of a UUIDv7, so that ids of different times never look the same


def short_length(ids: Collection[UUID], others: Iterable[UUID]) -> int:
    """Return how many leading characters distinguish each of *ids* from all other *ids* and *others*; at least 13.

    *others* needs to contain only the neighbours of each id in sort order.
    """
    wanted = set(ids)
    digits = LEAST_DIGITS
    for first, second in pairwise(sorted({*wanted, *others})):
        if first in wanted or second in wanted:
            same = (128 - (first.int ^ second.int).bit_length()) // 4
            digits = max(digits, same + 1)
    return digits + sum(digits > place for place in (8, 12, 16, 20))  # hyphens


def prefix_of(text: str) -> str | None:
    """Return the hexadecimal digits of *text*, an id or its first digits (at least four); None if it is neither."""
    digits = text.strip().lower().replace("-", "")
    return digits if 4 <= len(digits) <= 32 and not set(digits) - set("0123456789abcdef") else None
