"""Runs a function that may block, raise or hang in its own thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from qw.core.task.outcome import class_name

T = TypeVar("T")

_OF_THE_LOOP = (StopIteration, asyncio.CancelledError)  # wrapped, as a coroutine cannot raise them

Answer: TypeAlias = tuple[Any, BaseException | None]


def start_thread(name: str, function: Callable[[], T]) -> asyncio.Future[Answer]:
    """Call *function* in its own daemon thread. Return a future for its answer; `returned` unpacks it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def settle(result: object, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_result((result, error))

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = RuntimeError(class_name(raised)) if isinstance(raised, _OF_THE_LOOP) else raised
        with suppress(RuntimeError):  # if the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True).start()
    return answer


def returned(answer: Answer) -> Any:
    """Return the function's result, or raise its exception."""
    result, error = answer
    if error is not None:
        raise error
    return result
