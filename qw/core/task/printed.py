"""Command output stored as lines of the task's log, from which the exact bytes can be restored."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qw.core.task.payload import clean_text

MAX_LINE = 8192  # characters; longer lines are split

_PIECE = re.compile(rf"[^\r]{{1,{MAX_LINE}}}\r?|\r")


def lines_of(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield the log lines of *data*, each with its original bytes; None if those are the text and a newline."""
    *whole, rest = data.split(b"\n")
    for line in whole:
        yield from _pieces(line, b"\n")
    if rest:
        yield from _pieces(rest, b"")


def _pieces(line: bytes, end: bytes) -> Iterator[tuple[str, bytes | None]]:
    text = line.decode(errors="surrogateescape")
    if end and len(text) <= MAX_LINE and "\r" not in text and clean_text(text) == text:
        yield text, None
        return
    pieces = _PIECE.findall(text) or [""]
    for n, piece in enumerate(pieces, 1):
        raw = piece.encode(errors="surrogateescape")
        yield clean_text(piece.removesuffix("\r")), raw + end if n == len(pieces) else raw


def cut(data: bytes) -> tuple[bytes, bytes]:
    """Split *data* into what can be logged now (whole lines, and most of a very long one) and the rest."""
    end = data.rfind(b"\n") + 1
    if len(data) - end >= MAX_LINE:
        end = len(data)
        while end > len(data) - 4 and data[end - 1] & 0xC0 == 0x80:  # back to the start of a UTF-8 character
            end -= 1
        end -= data[end - 1] >= 0xC0
    return data[:end], data[end:]
