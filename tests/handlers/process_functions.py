"""What `test_process` has called in other processes. They import this module, which imports little."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from qw.core.task.handler_api import Reject, Retry, Snooze


class Picky(ValueError):
    """Cannot be rebuilt from its arguments, as many exceptions cannot."""

    def __init__(self, name: str, *, code: int) -> None:
        super().__init__(f"{name}: {code}")


def double(number: int) -> int:
    return number * 2


def fail(how: str) -> None:
    errors: dict[str, BaseException] = {
        "picky": Picky("x", code=3),
        "reject": Reject("no such customer"),
        "retry": Retry("busy", after=7),
        "snooze": Snooze(5, "not yet"),
        "exit": SystemExit(4),
    }
    raise errors[how]


def crash(how: str) -> None:
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "exit":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_stubbornly(file: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(file).write_text(f"{os.getpid()}\n")
    time.sleep(600)


def leave_a_thread() -> str:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return "done"


def exhaust_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))
    bytearray(2**30)


def nest() -> list[Any]:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    return deep


class Unanswerable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unreadable:
    """It can be sent, and raises where it is read."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return sys.exit, (self.code,)


def give(what: str) -> Any:
    if what == "large":
        return "x" * 10_000_000
    if what == "lazy":
        return map(str, [1])
    if what == "unanswerable":
        return Unanswerable()
    if what == "coroutine":
        return asyncio.sleep(0, "slept")
    if what == "fork":
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return "parent" if pid else "child"
    if what == "closed":
        sys.stdout.close()
        sys.stderr.close()
        return "closed"
    if what == "group":
        raise ExceptionGroup("several", [ValueError("v"), Retry("busy", after=9)])
    raise ExceptionGroup("several", [Snooze(3), Reject("no such customer")])


def ignore(what: object) -> str:
    return str(what)
