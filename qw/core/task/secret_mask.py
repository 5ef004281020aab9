"""Removes secrets from the output, result and error of a task before they are stored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from qw.core.task.masking import MASK
from qw.core.task.payload import Json


class SecretMask:
    """Replaces *secrets* by ``***``: each whole secret, each of its lines, and its JSON-escaped form."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = sorted({spelling for secret in secrets for spelling in _spellings(secret)}, key=len, reverse=True)
        self._secrets = [spelling.encode() for spelling in spellings]
        self._found = re.compile(b"|".join(map(re.escape, self._secrets))) if spellings else None
        self._longest = len(self._secrets[0]) if spellings else 0

    def text(self, text: str) -> str:
        return self.data(text.encode(errors="surrogatepass")).decode(errors="surrogatepass") if self._found else text

    def data(self, data: bytes) -> bytes:
        return self._found.sub(MASK.encode(), data) if self._found else data

    def json(self, value: Json) -> Json:
        """Return *value* with its texts and keys masked."""
        if not self._found:
            return value
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(key): self.json(below) for key, below in value.items()}
            case list():
                return [self.json(below) for below in value]
        return value

    def settled(self, data: bytes) -> int:
        """Return how many bytes of *data* can be masked now; the bytes after them may be the start of a secret."""
        settled = len(data) - self._open(data)
        for match in self._found.finditer(data) if self._found else ():
            if match.start() < settled < match.end():
                return match.start()
        return settled

    def _open(self, data: bytes) -> int:
        for size in range(min(self._longest - 1, len(data)), 0, -1):
            if any(secret.startswith(data[-size:]) for secret in self._secrets):
                return size
        return 0


class MaskedStream:
    """Masks data that arrives in pieces: bytes that may be the start of a secret are held back until that is known."""

    def __init__(self, mask: SecretMask) -> None:
        self._mask = mask
        self._kept = b""

    def add(self, data: bytes) -> bytes:
        data = self._kept + data
        settled = self._mask.settled(data)
        self._kept = data[settled:]
        return self._mask.data(data[:settled])

    def end(self) -> bytes:
        rest, self._kept = self._mask.data(self._kept), b""
        return rest


def _spellings(secret: str) -> Iterator[str]:
    for piece in {secret, *secret.splitlines()}:
        if piece.strip():
            yield piece
            yield json.dumps(piece)[1:-1]
            yield json.dumps(piece, ensure_ascii=False)[1:-1]
