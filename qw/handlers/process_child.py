"""The child of `process.run_in_process`: reads a call from stdin, makes it, and writes the answer to the file in argv.

It is run by path, with ``-I``: nothing of qw can be imported until the import path has been read.
"""

import json
import os
import pickle
import sys
from contextlib import suppress
from typing import Any


def main() -> None:
    process, path = os.getpid(), sys.argv[1]
    sys.path[:] = pickle.load(sys.stdin.buffer)  # noqa: S301 (our own daemon wrote it)
    call = sys.stdin.buffer.read()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    answer = _answer(call)
    if os.getpid() == process:  # not in a fork() of the function
        with open(f"{path}.part", "w") as part:
            json.dump(answer, part)
        os.rename(part.name, path)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the function may have closed the stream
                stream.flush()
    os._exit(0)  # does not wait for threads that the function left running


def _answer(call: bytes) -> "dict[str, Any]":
    """Make the call and return its outcome, determined here because its result or exception may not be picklable."""
    from qw.core.task.outcome import error_outcome, is_explained, result_outcome, text_of, traceback_of

    try:
        function, kwargs = pickle.loads(call)  # noqa: S301
        return _told(result_outcome(_awaited(function(**kwargs))))
    except BaseException as error:
        told = _told(error_outcome(error))
        try:
            told["traceback"] = "" if is_explained(error) else traceback_of(error)
        except BaseException:
            told["traceback"] = text_of(error)
        return told


def _awaited(result: object) -> object:
    """Return *result*, or await it if a decorator has hidden that the function is async."""
    if not hasattr(result, "__await__"):
        return result
    import asyncio

    async def end() -> object:
        return await result

    return asyncio.run(end())


def _told(outcome: Any) -> "dict[str, Any]":
    """Return the outcome as JSON; times are in seconds."""
    from qw.core.task.ending import Completed, Snoozed

    if isinstance(outcome, Completed):
        return {"returned": outcome.result}
    if isinstance(outcome, Snoozed):
        return {"snoozed": outcome.delay.total_seconds(), "text": outcome.reason}
    after = None if outcome.after is None else outcome.after.total_seconds()
    told = {"failed": list(outcome.names), "kind": outcome.kind, "text": outcome.error}
    return {**told, "after": after, "final": outcome.final}


if __name__ == "__main__":
    main()
