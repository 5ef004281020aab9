"""A shell on a pseudo-terminal, as a person has it: what is typed, and what is seen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

COLUMNS, LINES = 120, 50
PROMPT = "$ "
_READY = "\x1b]0;ready\x07"  # a window title: it comes before the prompt and is not seen
_INVISIBLE = re.compile(r"\x1b\][^\x07]*\x07|\x1b\[[0-9;?]*[A-Za-z]")
_OVERWRITTEN = re.compile(r"^.*\r\x1b\[K", re.MULTILINE)


class Terminal:
    """The keys and the screen of one shell."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._got = b""

    def type(self, line: str, *, seconds: float = 60) -> list[str]:
        """Type a command. Returns the lines that are seen until the next prompt, without the one that was typed."""
        return visible(self.output(line, seconds=seconds)).split("\n")[:-1]

    def output(self, line: str, *, seconds: float = 60) -> str:
        """The same as it comes: with colours, and with all that moves the cursor."""
        os.write(self._leader, f"{line}\n".encode())
        typed, _, shown = self.until(_READY + PROMPT, seconds=seconds).partition("\r\n")
        assert typed == line
        return shown

    def start(self, line: str, *, until: str) -> None:
        """Type a command that does not end; come back when it says *until*."""
        os.write(self._leader, f"{line}\n".encode())
        self.until(until, unless=_READY + PROMPT)

    def press(self, keys: str) -> None:
        """Press keys in a program that has the whole screen; come back at the next prompt."""
        os.write(self._leader, keys.encode())
        self.until(_READY + PROMPT)

    def interrupt(self) -> str:
        """Press ^C. Returns what is seen until the next prompt."""
        os.write(self._leader, b"\x03")
        return visible(self.until(_READY + PROMPT))

    def until(self, word: str, *, unless: str | None = None, seconds: float = 60) -> str:
        """What comes up to *word*; fails when *unless* comes first, or neither."""
        end, deadline = word.encode(), time.monotonic() + seconds
        while end not in self._got:
            assert time.monotonic() < deadline, self._got.decode(errors="replace")
            assert unless is None or unless.encode() not in self._got, self._got.decode(errors="replace")
            if select.select([self._leader], [], [], 0.1)[0]:
                self._got += os.read(self._leader, 65536)
        seen, _, self._got = self._got.partition(end)
        return seen.decode()


def visible(output: str) -> str:
    """*output* as it stands on the screen: without colours, and without what was written over."""
    return _INVISIBLE.sub("", _OVERWRITTEN.sub("", output.replace("\r\n", "\n")))


@contextmanager
def terminal(environ: Mapping[str, str], folder: Path, *, columns: int = COLUMNS) -> Iterator[Terminal]:
    """A shell that is ready for the first command. What still runs in it at the end is hung up."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    name = os.ttyname(follower)
    given = {k: v for k, v in environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    shell = subprocess.Popen(  # by its name, so that it becomes the terminal of the new session
        ["sh", "-c", f"exec bash --norc --noprofile --noediting <{name} >{name} 2>&1"],
        env={**given, "TERM": "xterm-256color", "PS1": _READY + PROMPT},
        cwd=folder, start_new_session=True,
    )  # fmt: skip
    try:
        screen = Terminal(leader)
        screen.until(_READY + PROMPT)
        yield screen
    finally:
        os.close(follower)
        os.close(leader)  # a hang-up
        shell.wait(60)
