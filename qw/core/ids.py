"""UUIDv7: ids that the caller makes, so that repeating an enqueue is harmless and COPY knows its ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from uuid import UUID

from qw.core.errors import Fault, Invalid


def uuid7(millis: int, entropy: bytes) -> UUID:
    """The id for a moment in milliseconds since 1970 and 10 random bytes (RFC 9562, section 5.7)."""
    rand = int.from_bytes(entropy, "big")
    high = (millis << 16) | 0x7000 | (rand >> 68 & 0xFFF)
    low = (1 << 63) | (rand & (1 << 62) - 1)
    return UUID(int=high << 64 | low)


def millis_of(id: UUID) -> int:
    """The milliseconds since 1970 in a UUIDv7."""
    return id.int >> 80


def parse_id(text: str, *, path: str = "id") -> UUID:
    """The UUID written in *text*. Raise Invalid naming *path* when it is none."""
    try:
        if len(text) == 36:
            return UUID(text)
    except ValueError:
        pass
    raise Invalid(Fault(path=path, message=f"{text[:60]!r} is not a UUID"))


LEAST_DIGITS = 12  # the milliseconds of a UUIDv7: an id of another moment is never mistaken for it


def short_length(ids: Collection[UUID], others: Iterable[UUID]) -> int:
    """How many characters tell each of *ids* from all of *ids* and *others*; at least 13.

    Of the others those next to an id in their order are enough.
    """
    wanted = set(ids)
    digits = LEAST_DIGITS
    for one, two in pairwise(sorted({*wanted, *others})):
        if one in wanted or two in wanted:
            same = (128 - (one.int ^ two.int).bit_length()) // 4
            digits = max(digits, same + 1)
    return digits + sum(digits > place for place in (8, 12, 16, 20))  # hyphens


def prefix_of(text: str) -> str | None:
    """The hexadecimal digits of *text*, an id or at least four digits of its beginning; None when it is neither."""
    digits = text.strip().lower().replace("-", "")
    return digits if 4 <= len(digits) <= 32 and not set(digits) - set("0123456789abcdef") else None
