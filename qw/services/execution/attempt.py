"""Runs one attempt, from claim to outcome. Whatever the handler does, there is an outcome within its timeout.

User code runs in three places: the handler, methods of its result (``__str__``, ``model_dump``), and methods of its
exception. The first two are subject to the timeout; the last gets EXPLAIN_SECONDS. These methods are called in a thread
unless the value is of a built-in class, because one that blocks would block the event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from qw.core.task.ending import COMPLETED, Cancelled, Completed, Failed, HandedBack, Outcome, Snoozed, Suspended
from qw.core.task.outcome import (
    class_name,
    error_outcome,
    failure_of,
    is_cancelled,
    is_explained,
    is_plain,
    result_outcome,
    text_of,
    traceback_of,
)
from qw.core.task.payload import PLAIN_CLASSES, NotPlain
from qw.handlers import HandlerKind
from qw.handlers.surroundings import surrounded
from qw.services.execution.context import AttemptContext, BlockingContext
from qw.services.execution.in_flight import ClaimInFlight, ClaimState, Stop, running_claim
from qw.services.side_thread import returned, start_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

EXPLAIN_SECONDS = 2.0  # time limit for formatting an exception
LOG_SECONDS = 1.0  # maximum time that an outcome waits for the task's log


async def attempt(holding: ClaimInFlight, context: AttemptContext) -> Outcome:
    """Run the handler once and return the outcome. Never raises; the holding's ``stop`` explains a cancellation."""
    running_claim.set(holding)
    try:
        try:
            # No further coroutine around the most frequent handlers: each would cost 0.5 us of the 15 of a no-op.
            handler = holding.handler
            assert handler is not None
            if handler.is_direct:
                result = await handler.function(**handler.arguments(context))
            else:
                result = await surrounded(handler.middleware, context, partial(_called, holding))
            outcome: Outcome = COMPLETED if result is None else await converted(result, holding)
            holding.state = ClaimState.ENDING  # cannot be stopped any more, so that its outcome is not lost
            if holding.stop is not None and holding.stop in (Stop.TIMEOUT, Stop.EXIT):  # it returned too late to count
                outcome = stopped(holding)
        except BaseException as error:  # libraries raise their own subclasses, such as Rust panics
            holding.state = ClaimState.ENDING
            outcome = await _failed(error, holding, context)
        if holding.in_executor and not isinstance(outcome, Completed) and holding.stop not in (Stop.DRAIN, Stop.LEASE):
            await executor_done(holding)
        return outcome
    except GeneratorExit:
        raise  # the event loop is closed: nothing awaits this attempt
    except BaseException as error:
        log.exception("attempt produced no outcome", extra={"task": str(holding.claim.id), "type": holding.claim.type})
        return failure_of(error, "the outcome of the attempt could not be determined")
    finally:
        holding.state = ClaimState.ENDING
        if running_claim.get() is holding:  # else the coroutine is closed in the context of another
            running_claim.set(None)


async def _failed(error: BaseException, holding: ClaimInFlight, context: AttemptContext) -> Outcome:
    """Return the outcome of a handler that raised *error*, or was cancelled."""
    if isinstance(error, asyncio.CancelledError):
        if holding.stop is None and Stop.LEASE in error.args:  # its child process detected that first
            holding.stop = Stop.LEASE
        return stopped(holding)
    if isinstance(error, GeneratorExit) and _is_abandoned(holding):
        raise error
    if holding.stop in OVERRULING or (holding.stop is not None and is_cancelled(error)):
        return stopped(holding)  # the handler turned its cancellation into another exception
    return await explained(error, context)


OVERRULING = frozenset({Stop.TIMEOUT, Stop.EXIT, Stop.LEASE, Stop.DRAIN})


def _is_abandoned(holding: ClaimInFlight) -> bool:
    """Whether the coroutine is being closed from outside, rather than raising GeneratorExit itself."""
    try:
        return asyncio.current_task() is not holding.task
    except RuntimeError:
        return True


async def _called(holding: ClaimInFlight, context: AttemptContext) -> object:
    """Call the handler and return its result."""
    handler = holding.handler
    assert handler is not None
    if handler.runs_in_loop:
        return await handler.function(**handler.arguments(context))
    if handler.kind is HandlerKind.PROCESS:
        from qw.handlers.process import run_in_process

        return await run_in_process(handler.function, handler.arguments(context), str(holding.claim.id))
    arguments = handler.arguments(BlockingContext(context, asyncio.get_running_loop()))
    result = await in_thread(handler.function, arguments, holding)
    return await awaited(result, holding)


async def awaited(result: object, holding: ClaimInFlight) -> object:
    """Await the return value of a plain function if it is awaitable: a decorator may hide an async function."""
    while True:
        if type(result) in PLAIN_CLASSES:
            return result
        if holding.stop is not None and inspect.iscoroutine(result):
            result.close()  # the thread returned after it was stopped: do not start the coroutine
            raise asyncio.CancelledError
        if isinstance(result, concurrent.futures.Future):
            result = await asyncio.wrap_future(result)
        elif inspect.isawaitable(result):
            result = await result
        else:
            return result


async def in_thread(function: Callable[..., object], arguments: dict[str, Any], holding: ClaimInFlight) -> object:
    """Run *function* in its own thread. A thread cannot be stopped: it keeps slot and claim until it returns."""
    done = start_thread(f"qw {holding.claim.type} {holding.claim.id}", lambda: function(**arguments))
    while True:
        try:
            return returned(await asyncio.shield(done))
        except asyncio.CancelledError:
            if done.done():
                return returned(done.result())
            if holding.stop is Stop.LEASE:
                raise  # nothing awaits this coroutine


async def executor_done(holding: ClaimInFlight) -> None:
    """Wait for threads that the handler left running in `asyncio.to_thread`, so that no other attempt overlaps.

    Does not wait once the lease has expired, since another worker may have the task then.
    """
    holding.state = ClaimState.RUNNING
    while left := list(holding.in_executor or ()):
        try:
            await asyncio.gather(*map(asyncio.wrap_future, left), return_exceptions=True)
        except asyncio.CancelledError:
            if holding.stop is Stop.LEASE:
                break


async def converted(result: object, holding: ClaimInFlight) -> Completed | Failed:
    """Return the outcome of a handler that returned *result*."""
    try:
        return result_outcome(result, plain_only=True)
    except NotPlain:
        pass
    outcome: Completed | Failed
    converting = start_thread("qw result", lambda: result_outcome(result))
    try:
        # A handler that was stopped and still returned a result is not stopped again.
        async with asyncio.timeout(None if holding.stop is None else EXPLAIN_SECONDS):
            outcome = returned(await converting)
    except TimeoutError:
        raise asyncio.CancelledError from None
    return outcome


async def explained(error: BaseException, context: AttemptContext) -> Failed | Snoozed | Suspended:
    """Return the outcome of a handler that raised *error*, and write the traceback to the task's log."""
    if is_plain(error):
        return error_outcome(error)
    outcomes: list[Failed | Snoozed | Suspended] = []
    explaining = start_thread("qw error", lambda: _explain(error, outcomes))
    try:
        async with asyncio.timeout(EXPLAIN_SECONDS):
            trace = returned(await explaining)
    except GeneratorExit:
        raise
    except BaseException as failure:
        log.warning("error text could not be read", extra={"task": str(context.task_id), "why": class_name(failure)})
        if outcomes:
            return outcomes[0]
        return failure_of(error, "the handler raised an error whose text could not be read")
    if trace:
        await _log(trace, context)
    return outcomes[0]


async def _log(trace: str, context: AttemptContext) -> None:
    """Add the traceback to the task's log, unless the log stays full for LOG_SECONDS: the outcome has priority."""
    try:
        async with asyncio.timeout(LOG_SECONDS):
            await context.log(trace, level="ERROR")
    except (TimeoutError, asyncio.CancelledError):
        log.warning("traceback dropped: task log buffer is full", extra={"task": str(context.task_id)})


def _explain(error: BaseException, outcomes: list[Failed | Snoozed | Suspended]) -> str:
    """Append the outcome of *error*, then return its traceback, which can take much longer; "" if none is needed."""
    outcome = error_outcome(error)
    outcomes.append(outcome)
    if is_explained(error):
        return ""
    if isinstance(outcome, Snoozed):
        log.warning("task postponed", extra={"reason": outcome.reason, "error": text_of(error)})
        return ""
    try:
        return traceback_of(error)
    except BaseException as broken:  # a cause or a note that cannot be formatted
        return f"{text_of(error)}\n(the traceback cannot be shown: {class_name(broken)})"


def stopped(holding: ClaimInFlight) -> Outcome:
    """Return the outcome of a handler that was stopped, by the reason of the stop."""
    match holding.stop:
        case Stop.TIMEOUT:
            return Failed(error=holding.stop_reason, names=("TimeoutError",), outcome="timed_out")
        case Stop.EXIT:
            return Failed(error=holding.stop_reason, names=("SystemExit", "BaseException"))
        case Stop.CANCEL:
            return Cancelled(reason=holding.stop_reason or "cancelled")
        case Stop.LEASE | Stop.DRAIN:
            return HandedBack()
        case None:
            return Failed(error="the handler cancelled itself", names=("CancelledError",))
