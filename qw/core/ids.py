"""UUIDv7: ids that the caller makes, so that repeating an enqueue is harmless and COPY knows its ids."""

from __future__ import annotations

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
