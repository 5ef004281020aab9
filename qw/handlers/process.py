"""Runs a plain function in its own process, which can be killed, and whose crash affects no other task.

Each attempt starts a new interpreter instead of using a pool or a fork. A fork of a program with threads (the
heartbeat is one) can deadlock on a lock that no thread will release, and a pooled process that dies fails the futures
of other tasks. A start costs about 50 ms plus the import of the function's module, less than CPU-bound work takes.
`supervise.py` runs between the daemon and the process, so that the process is stopped with all its children and dies
with the daemon.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from qw.core.task.handler_api import Failure, Reject, Retry, Snooze
from qw.core.task.payload import Json
from qw.handlers.child import ExitStatus, Program, started

_RUNNER = str(Path(__file__).with_name("process_child.py"))


class ProcessDied(Failure):
    """The process ended without an answer."""


async def run_in_process(
    function: Callable[..., Any],
    kwargs: Mapping[str, Any],
    task_id: str | None = None,
    *,
    timeout: timedelta | None = None,
) -> Json:
    """Call *function* with *kwargs* in its own process and return its result as JSON.

    An exception of the function is raised here, as a class with the same name and ancestors' names. Raise ProcessDied
    if the process crashed, TimeoutError after *timeout*, Reject if the call cannot be pickled. When the call is
    cancelled or times out, the process is killed first.
    """
    with tempfile.TemporaryDirectory(prefix="qw-process-") as private, _request(function, kwargs) as request:
        answer = Path(private, "answer.json")
        argv = (sys.executable, "-I", _RUNNER, str(answer))
        marked = {**os.environ, "QW_TASK_ID": task_id} if task_id else os.environ  # identifies the process
        program = Program(executable=sys.executable, argv=argv, env=marked, cwd=_directory())
        async with (
            asyncio.timeout(timeout.total_seconds() if timeout else None),
            started(program, stdin=request, capture=False) as (child, _),
        ):
            ended = await child.ended()
        return _answer(answer, ended)


@contextmanager
def _request(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Iterator[IO[Any]]:
    """Yield a file with the import path, followed by the call, which can only be unpickled with that path."""
    with tempfile.TemporaryFile() as file:
        file.write(pickle.dumps(list(sys.path)))
        file.write(_call(function, kwargs))
        file.seek(0)
        yield file


def _call(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> bytes:
    name = getattr(function, "__qualname__", repr(function))
    if getattr(function, "__module__", None) == "__main__":
        raise Reject(f"{name} is defined in the program's main file; process=True needs a module that can be imported")
    try:
        return pickle.dumps((function, dict(kwargs)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise Reject(f"{name} cannot be sent to another process: {error}") from None


def _answer(path: Path, ended: ExitStatus) -> Json:
    if ended.code:
        raise ProcessDied(f"process died: {ended}")
    try:
        answer = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise ProcessDied(f"process ended without an answer: {ended}") from None
    if "returned" not in answer:
        raise _raised(answer)
    result: Json = answer["returned"]
    return result


def _raised(answer: Mapping[str, Any]) -> Exception:
    """Return an exception that is handled as the original would be, with the names of its classes."""
    text = str(answer["text"])
    if "snoozed" in answer:
        return Snooze(answer["snoozed"], text)
    names, kind = [name for name in answer["failed"] if name not in _BELOW], str(answer.get("kind") or "")
    if answer["final"]:
        error: Exception = _subclass(names, Reject)(text, kind=kind)
    elif answer["after"] is not None or "Retry" in answer["failed"]:
        error = _subclass(names, Retry)(text, after=answer["after"], kind=kind)
    else:
        error = _subclass(names, Failure if "Failure" in answer["failed"] else Exception)(text)
        error.kind = kind  # type: ignore[attr-defined]  # only read if it is a Failure
    if trace := answer.get("traceback"):
        error.add_note(str(trace))
    return error


_BELOW = frozenset({"Failure", "Reject", "Retry", "Exception", "BaseException"})


def _subclass(names: Sequence[str], base: type[Exception]) -> Any:
    """Return a class ``names[0]``, derived from ``names[1]`` etc., then *base*: `retry_on` compares class names."""
    for name in reversed(names):
        base = type(name, (base,), {})
    return base


def _directory() -> Path:
    """Return the daemon's working directory, or the root directory if it no longer exists."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
