"""Builds the AMQP 0-9-1 frames of a persistent, mandatory publish.

aiormq builds them one object at a time, at 400 µs of processor time per message, which would dominate the cost of
publishing a hundred thousand events. See the specification, sections 2.3.5 and 4.2.6.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from qw.core.event import Message

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_BASIC, _PUBLISH, _MANDATORY, _PERSISTENT = 60, 40, 1, 2
# content type, delivery mode, message id, timestamp, type, app id
_PROPERTIES = 1 << 15 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 3
_frame_start = struct.Struct("!BHI").pack
_header_start = struct.Struct("!HHQH").pack
_number = struct.Struct("!Q").pack


def publish_frames(channel: int, exchange: str, key: str, message: Message, *, piece: int) -> bytes:
    """The frames that publish *message* on *channel*, with its body in pieces of at most *piece* bytes."""
    body = message.body
    before, after = _same_for_all(message.content_type, message.type)
    header = (
        _header_start(_BASIC, 0, len(body), _PROPERTIES)
        + before
        + _short(str(message.id))
        + _number(int(message.at.timestamp()))
        + after
    )
    pieces = [_frame(_BODY, channel, body[start : start + piece]) for start in range(0, len(body), piece)]
    return b"".join((_method(channel, exchange, key), _frame(_HEADER, channel, header), *pieces))


@lru_cache(maxsize=1000)
def _method(channel: int, exchange: str, key: str) -> bytes:
    content = struct.pack("!HHH", _BASIC, _PUBLISH, 0) + _short(exchange) + _short(key) + bytes((_MANDATORY,))
    return _frame(_METHOD, channel, content)


@lru_cache(maxsize=100)
def _same_for_all(content_type: str, type: str) -> tuple[bytes, bytes]:
    """The parts of the header before the message's own id and after its time, which all messages share."""
    return _short(content_type) + bytes((_PERSISTENT,)), _short(type) + _short("qw")


def _frame(kind: int, channel: int, content: bytes) -> bytes:
    return _frame_start(kind, channel, len(content)) + content + _END


def _short(text: str) -> bytes:
    """A short string of at most 255 bytes. A longer routing key is cut off; no binding can match the rest."""
    data = text.encode()[:255]
    return bytes((len(data),)) + data
