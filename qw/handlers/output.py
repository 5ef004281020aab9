"""What a command prints, on its way into the task's log: whole lines, as they come, under a cap."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from qw.core.task.handler_api import Context
from qw.core.task.payload import MAX_RESULT
from qw.handlers.child import Pipe

MAX_OUTPUT = 1024 * 1024  # characters logged of an attempt, stdout and stderr together: half head, half tail
MAX_LINE = 8192  # characters; longer lines are split
MAX_KEPT = MAX_RESULT  # characters of stdout that may go into the result; their bytes are counted there
TAIL = 4096  # characters shown of a longer one

_BLOCK = 8192


class Output:
    """The log of one attempt's output: the head at once, the tail by `close`, what is between only counted."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._room = MAX_OUTPUT // 2
        self._tail: deque[tuple[str, str]] = (
            deque()
        )  # (level, lines), in blocks: a tuple per line would be all overhead
        self._tail_size = 0
        self._left_out = 0

    async def add(self, lines: Sequence[str], level: str) -> None:
        fitting = 0
        while fitting < len(lines) and self._room > 0:
            self._room -= len(lines[fitting]) + 1
            fitting += 1
        if fitting:
            await self._context.log("\n".join(lines[:fitting]), level=level)
        if fitting < len(lines):
            self._keep("\n".join(lines[fitting:]), level)

    async def close(self) -> None:
        if self._left_out:
            await self._context.log(f"… {self._left_out:,} characters left out …", level="WARNING")
        while self._tail:
            level, block = self._tail.popleft()
            await self._context.log(block, level=level)

    def _keep(self, block: str, level: str) -> None:
        if self._tail and self._tail[-1][0] == level and len(self._tail[-1][1]) < _BLOCK:
            before = self._tail.pop()[1]
            self._tail_size -= len(before)
            block = f"{before}\n{block}"
        self._tail.append((level, block))
        self._tail_size += len(block)
        while self._tail_size > MAX_OUTPUT // 2:
            dropped = len(self._tail.popleft()[1])
            self._tail_size -= dropped
            self._left_out += dropped


@dataclass(kw_only=True)
class Captured:
    """What came out of a pipe: ``text`` is all of it, or its last TAIL characters where it is longer than MAX_KEPT."""

    text: str = ""
    characters: int = 0

    @property
    def is_whole(self) -> bool:
        return self.characters == len(self.text)

    @property
    def tail(self) -> str:
        return self.text[-TAIL:]


async def follow(pipe: Pipe, output: Output, level: str) -> Captured:
    """Log what comes out of *pipe* until its end, and keep it.

    If logging fails, the pipe is closed, so that the command cannot wait for us for ever.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    unfinished, kept = "", _Keeper()
    try:
        while chunk := await pipe.read():
            text = decoder.decode(chunk)
            kept.add(text)
            lines, unfinished = _lines(unfinished + text)
            await output.add(lines, level)
        rest = decoder.decode(b"", final=True)
        kept.add(rest)
        if unfinished + rest:
            await output.add([unfinished + rest], level)
    finally:
        pipe.close()
    return kept.captured()


class _Keeper:
    """Keeps the whole of a text while it is short enough, and then its end."""

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


def _lines(text: str) -> tuple[list[str], str]:
    """The whole lines in *text*, none longer than MAX_LINE, and what follows the last of them."""
    *whole, rest = text.split("\n")
    lines = [piece for line in whole for piece in _pieces(line.removesuffix("\r"))]
    cut = len(rest) // MAX_LINE * MAX_LINE
    return [*lines, *_pieces(rest[:cut])] if cut else lines, rest[cut:]


def _pieces(line: str) -> list[str]:
    return [line[n : n + MAX_LINE] for n in range(0, len(line), MAX_LINE)] or [""]
