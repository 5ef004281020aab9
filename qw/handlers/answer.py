"""Reads HTTP responses within bounded memory: bodies are decompressed in pieces, up to a maximum size."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qw.core.errors import Invalid
from qw.core.task.handler_api import Failure
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, clean, clean_text

if TYPE_CHECKING:
    import httpx

MAX_STORED = MAX_RESULT - 24 * 1024  # bytes of a body, received and as JSON; the rest is for headers
ENCODINGS = "gzip, deflate"  # encodings that are decompressed in pieces
MAX_READ = 10 * 1024 * 1024  # bytes of a decompressed body; a longer one fails the attempt

_MAX_HEADERS = 16 * 1024  # bytes of headers in the result
_PIECE = 64 * 1024


class ResponseTooLarge(Failure):
    pass


class UnreadableResponse(Failure):
    pass


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """An HTTP response. ``headers``: names in lower case. ``length``: the size of the decompressed body in bytes.

    ``text``: the body, or its beginning if ``truncated``.
    """

    status: int
    headers: dict[str, str]
    text: str
    truncated: bool
    length: int

    def stored(self) -> JsonObject:
        """Return the task's result. ``response``: the value of a JSON body, the text of any other, null if empty.

        If body or headers are shortened, ``truncated`` is true, and ``cut`` says why; expressions cannot read ``cut``.
        """
        try:
            response, cut = self._json(), False
        except (ValueError, RecursionError, Invalid):
            response, cut = _fitting(self.text)
        headers = dict(_kept(self.headers))
        result: JsonObject = {"response": response, "status": self.status, "headers": headers}
        why: JsonObject = {}
        if cut or self.truncated:
            why["response"] = (
                f"the answer has {self.length:,} bytes, more than a result holds ({MAX_STORED:,} bytes of JSON); "
                "ask for less, or fetch it with a command or a handler that keeps it elsewhere"
            )
        if len(headers) < len(self.headers):
            why["headers"] = f"the answer's headers are longer than {_MAX_HEADERS:,} bytes"
        return {**result, "truncated": True, "cut": why} if why else result

    def _json(self) -> Json:
        """Return the body parsed as JSON. Raise ValueError if it is not JSON, truncated, or exceeds MAX_STORED."""
        if self.truncated or "json" not in self.headers.get("content-type", ""):
            raise ValueError("not JSON")
        value = clean(json.loads(self.text))
        if _size(value) > MAX_STORED:
            raise ValueError("too long")
        return value


async def read(response: httpx.Response) -> HttpAnswer:
    """Read the response, keeping at most MAX_STORED bytes of its body. Raise ResponseTooLarge past MAX_READ bytes."""
    kept, total = bytearray(), 0
    async for piece in pieces(response, most=MAX_READ):
        total += len(piece)
        kept += piece[: MAX_STORED - len(kept)]
    return HttpAnswer(
        status=response.status_code,
        headers={name.lower(): value for name, value in response.headers.items()},
        text=_text(bytes(kept), response.charset_encoding),
        truncated=total > len(kept),
        length=total,
    )


async def content(response: httpx.Response, *, most: int) -> bytes:
    """Return the whole body. Raise ResponseTooLarge if it is longer than *most* bytes when decompressed."""
    return b"".join([piece async for piece in pieces(response, most=most)])


async def pieces(response: httpx.Response, *, most: int) -> AsyncIterator[bytes]:
    """Yield the decompressed body as it arrives. Raise ResponseTooLarge past *most* bytes."""
    unpack, total = _unpacker(response.headers.get("content-encoding", "")), 0
    async for packed in response.aiter_raw():
        for piece in unpack(packed):
            total += len(piece)
            if total > most:
                raise ResponseTooLarge(f"the response is longer than {most:,} bytes")
            yield piece


def _unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return lambda packed: iter((packed,))
    if name in ("gzip", "x-gzip", "deflate"):
        return _Inflate().pieces
    raise UnreadableResponse(f"the response is encoded as {encoding[:60]!r}, which was not asked for")


class _Inflate:
    """Decompresses gzip and zlib in pieces of bounded size; a chunk may expand to a thousand times its length."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=47)  # window of 15 bits; +32 detects gzip or zlib by its header

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            try:
                yield self._inflate.decompress(packed, _PIECE)
            except zlib.error as error:
                raise UnreadableResponse(f"the response cannot be decompressed: {error}") from None
            packed = self._inflate.unconsumed_tail
            if self._inflate.eof:
                packed = self._inflate.unused_data
                self._inflate = zlib.decompressobj(wbits=47)


def _text(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")


def _fitting(text: str) -> tuple[Json, bool]:
    """Return as much of *text* as fits into MAX_STORED bytes of JSON, escapes included, and whether it was cut."""
    whole = clean_text(text)
    fitting = whole
    while (size := _size(fitting)) > MAX_STORED:
        fitting = fitting[: len(fitting) * MAX_STORED // size]
    return fitting or None, len(fitting) < len(whole)


def _kept(headers: dict[str, str]) -> Iterator[tuple[str, Json]]:
    room = _MAX_HEADERS
    for name, value in headers.items():
        room -= len(name) + _size(value)
        if room > 0:
            yield name, clean_text(value)


def _size(value: Json) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
