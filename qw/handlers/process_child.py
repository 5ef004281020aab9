"""The far side of `process.run_in_process`: reads a call from stdin, makes it, writes the answer to the file named.

Run by its path, with ``-I``: nothing of qw can be imported before the import path has arrived.
"""

import json
import os
import pickle
import sys
import traceback
from typing import Any


def main() -> None:
    sys.path[:] = pickle.load(sys.stdin.buffer)  # noqa: S301 (our own daemon wrote it)
    call = sys.stdin.buffer.read()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with open(sys.argv[1], "w") as answer:
        json.dump(_answer(call), answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that the function left behind end here


def _answer(call: bytes) -> "dict[str, Any]":
    from qw.core.task.payload import clean

    try:
        function, kwargs = pickle.loads(call)  # noqa: S301
        return {"returned": clean(function(**kwargs))}
    except Exception as error:
        return {"raised": _told(error)}


def _told(error: Exception) -> "dict[str, Any]":
    """What `process` needs to raise a like exception; ``seconds`` is what a Retry or Snooze carries."""
    from qw.core.task.payload import clean_error

    pause = getattr(error, "after", getattr(error, "delay", None))
    total_seconds = getattr(pause, "total_seconds", None)
    return {
        "names": [cls.__name__ for cls in type(error).__mro__ if cls not in (Exception, BaseException, object)],
        "text": clean_error(str(error)),
        "traceback": clean_error("".join(traceback.format_exception(error))),
        "seconds": total_seconds() if callable(total_seconds) else None,
    }


if __name__ == "__main__":
    main()
