"""The far side of `process.run_in_process`: reads a call from stdin, makes it, writes the answer to the file named.

Run by its path, with ``-I``: nothing of qw can be imported before the import path has arrived.
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
    if os.getpid() == process:  # not a copy that the function made with fork()
        with open(f"{path}.part", "w") as part:
            json.dump(answer, part)
        os.rename(part.name, path)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the function may have closed it
                stream.flush()
    os._exit(0)  # threads that the function left behind end here


def _answer(call: bytes) -> "dict[str, Any]":
    """The outcome of the call, judged here: the objects that it is judged by cannot be sent."""
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
    """The end of what a function returned that hid, behind a decorator, that it is async."""
    if not hasattr(result, "__await__"):
        return result
    import asyncio

    async def end() -> object:
        return await result

    return asyncio.run(end())


def _told(outcome: Any) -> "dict[str, Any]":
    """The outcome as JSON; times in seconds."""
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
