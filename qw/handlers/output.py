"""What a command prints, on its way into the task's log: whole lines, as they come, under a cap."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence

from qw.core.task.handler_api import Context
from qw.handlers.child import Pipe

MAX_OUTPUT = 1024 * 1024  # characters logged of an attempt, stdout and stderr together: half head, half tail
MAX_LINE = 8192  # characters; longer lines are split
KEPT = 4096  # characters of stdout that go into the result

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


async def follow(pipe: Pipe, output: Output, level: str) -> str:
    """Log what comes out of *pipe* until its end. Returns the last KEPT characters.

    If logging fails, the pipe is closed, so that the command cannot wait for us for ever.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    unfinished, last = "", ""
    try:
        while chunk := await pipe.read():
            text = decoder.decode(chunk)
            last = (last + text)[-KEPT:]
            lines, unfinished = _lines(unfinished + text)
            await output.add(lines, level)
        if rest := unfinished + decoder.decode(b"", final=True):
            await output.add([rest], level)
    finally:
        pipe.close()
    return last


def _lines(text: str) -> tuple[list[str], str]:
    """The whole lines in *text*, none longer than MAX_LINE, and what follows the last of them."""
    *whole, rest = text.split("\n")
    lines = [piece for line in whole for piece in _pieces(line.removesuffix("\r"))]
    cut = len(rest) // MAX_LINE * MAX_LINE
    return [*lines, *_pieces(rest[:cut])] if cut else lines, rest[cut:]


def _pieces(line: str) -> list[str]:
    return [line[n : n + MAX_LINE] for n in range(0, len(line), MAX_LINE)] or [""]
