"""Copies a command's output to the task's log as it is printed, up to a maximum size."""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass

from qw.core.task.handler_api import Context
from qw.core.task.payload import MAX_RESULT
from qw.core.task.printed import cut
from qw.core.task.secret_mask import MaskedStream, SecretMask
from qw.handlers.child import Pipe

MAX_OUTPUT = 1024 * 1024  # bytes logged per attempt, stdout and stderr together: half head, half tail
MAX_KEPT = MAX_RESULT  # characters of stdout kept for the result, which checks their size in bytes
TAIL = 4096  # characters kept of longer output

_BLOCK = 8192


class Output:
    """Logs the output of one attempt: the head at once, the tail in `close`; the bytes between are only counted."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._room = MAX_OUTPUT // 2
        self._tail: deque[tuple[str, bytes]] = deque()  # blocks, as entries per line would waste memory
        self._tail_size = 0
        self._left_out = 0

    async def add(self, data: bytes, level: str) -> None:
        """Log *data*, which ends with a newline or is a piece of a long line."""
        fitting = 0 if self._room <= 0 else len(data)
        if fitting > self._room > 0:
            fitting = data.find(b"\n", self._room) + 1 or len(data)
        if fitting:
            self._room -= fitting
            await self._context.output(data[:fitting], level=level)
        if fitting < len(data):
            self._keep(data[fitting:], level)

    async def close(self) -> None:
        if self._left_out:
            await self._context.log(f"… {self._left_out:,} bytes left out …", level="WARNING")
        while self._tail:
            level, block = self._tail.popleft()
            await self._context.output(block, level=level)

    def _keep(self, data: bytes, level: str) -> None:
        for start in range(0, len(data), 4 * _BLOCK):  # small blocks, since whole blocks are dropped
            self._keep_block(data[start : start + 4 * _BLOCK], level)

    def _keep_block(self, block: bytes, level: str) -> None:
        self._tail_size += len(block)
        if self._tail and self._tail[-1][0] == level and len(self._tail[-1][1]) < _BLOCK:
            block = self._tail.pop()[1] + block
        self._tail.append((level, block))
        while self._tail_size > MAX_OUTPUT // 2:
            dropped = len(self._tail.popleft()[1])
            self._tail_size -= dropped
            self._left_out += dropped


@dataclass(kw_only=True)
class Captured:
    """The output of one pipe. ``text``: all of it, or its last TAIL characters if it is longer than MAX_KEPT."""

    text: str = ""
    characters: int = 0

    @property
    def is_whole(self) -> bool:
        return self.characters == len(self.text)

    @property
    def tail(self) -> str:
        return self.text[-TAIL:]


async def follow(pipe: Pipe, output: Output, level: str, mask: SecretMask) -> Captured:
    """Log the output of *pipe* until its end and return it, both with the secrets of *mask* masked.

    If logging fails, the pipe is closed, so that the command cannot block forever.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    unfinished, kept, masked = b"", _Keeper(), MaskedStream(mask)
    try:
        while chunk := await pipe.read():
            shown = masked.add(chunk)
            kept.add(decoder.decode(shown))
            ready, unfinished = cut(unfinished + shown)
            if ready:
                await output.add(ready, level)
        rest = masked.end()
        kept.add(decoder.decode(rest, final=True))
        unfinished += rest
        if unfinished:
            await output.add(unfinished, level)
    finally:
        pipe.close()
    return kept.captured()


class _Keeper:
    """Keeps a text while it is at most MAX_KEPT characters long, and then only its end."""

    def __init__(self) -> None:
        self._pieces: deque[str] = deque()
        self._kept = self._characters = 0

    def add(self, text: str) -> None:
        self._pieces.append(text)
        self._kept += len(text)
        self._characters += len(text)
        most = MAX_KEPT if self._characters <= MAX_KEPT else TAIL
        while self._kept - len(self._pieces[0]) >= most:
            self._kept -= len(self._pieces.popleft())

    def captured(self) -> Captured:
        text = "".join(self._pieces)
        whole = len(text) == self._characters and len(text) <= MAX_KEPT
        return Captured(text=text if whole else text[-TAIL:], characters=self._characters)
